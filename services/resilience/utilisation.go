package resilience

// Utilisation is the share of its bulkhead, or of its adaptive limit where that
// is lower, that the fullest command has under way: 0 is idle, at 1 further calls
// of it are refused. It costs a few loads for each command.
func (g *Group) Utilisation() float64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	most := 0.0
	for _, c := range g.circuits {
		limit := c.settings.Load().maxConcurrent
		if l := c.limiter.Load(); l != nil {
			limit = min(limit, int64(l.Limit()))
		}
		if limit > 0 {
			most = max(most, float64(c.inFlight.Load())/float64(limit))
		}
	}
	return most
}
