package abr

// Planner is the default algorithm.
type Planner struct{ *MPC }

// NewPlanner makes it.
func NewPlanner(l Ladder, bufferMS float64) *Planner { return &Planner{NewMPC(l, bufferMS)} }
