package evcache

import (
	"os"
	"runtime"
	"strconv"
)

// stat is one line of "stats".
type stat struct {
	name, value string
}

// stats are the general-purpose statistics, named as memcached names them.
func (s *Server) stats() []stat {
	c, items, bytes := s.cache.figures()
	now := s.now()
	u := func(n uint64) string { return strconv.FormatUint(n, 10) }
	i := func(n int64) string { return strconv.FormatInt(n, 10) }
	return []stat{
		{"pid", i(int64(os.Getpid()))},
		{"uptime", i(int64(now.Sub(s.started).Seconds()))},
		{"time", i(now.Unix())},
		{"version", serverVersion},
		{"pointer_size", strconv.Itoa(strconv.IntSize)},
		{"max_connections", strconv.Itoa(maxConns)},
		{"curr_connections", strconv.Itoa(s.connections())},
		{"total_connections", u(s.totalConns.Load())},
		{"rejected_connections", u(s.rejected.Load())},
		{"cmd_get", u(c.cmdGet)},
		{"cmd_set", u(c.cmdSet)},
		{"cmd_flush", u(c.cmdFlush)},
		{"cmd_touch", u(c.cmdTouch)},
		{"get_hits", u(c.getHits)},
		{"get_misses", u(c.getMisses)},
		{"delete_misses", u(c.deleteMisses)},
		{"delete_hits", u(c.deleteHits)},
		{"incr_misses", u(c.incrMisses)},
		{"incr_hits", u(c.incrHits)},
		{"decr_misses", u(c.decrMisses)},
		{"decr_hits", u(c.decrHits)},
		{"cas_misses", u(c.casMisses)},
		{"cas_hits", u(c.casHits)},
		{"cas_badval", u(c.casBadval)},
		{"touch_hits", u(c.touchHits)},
		{"touch_misses", u(c.touchMisses)},
		{"limit_maxbytes", i(s.cache.max)},
		{"threads", strconv.Itoa(runtime.GOMAXPROCS(0))},
		{"bytes", i(bytes)},
		{"curr_items", strconv.Itoa(items)},
		{"total_items", u(c.totalItems)},
		{"store_no_memory", u(c.refused)},
		{"evictions", u(c.evictions)},
		{"reclaimed", u(c.reclaimed)},
	}
}

// settings are the figures of "stats settings".
func (s *Server) settings() []stat {
	return []stat{
		{"maxbytes", strconv.FormatInt(s.cache.max, 10)},
		{"maxconns", strconv.Itoa(maxConns)},
		{"item_size_max", strconv.Itoa(maxItem)},
		{"evictions", "on"},
		{"cas_enabled", "yes"},
		{"binding_protocol", "auto-negotiate"},
	}
}

// statsOf returns the statistics of one group; ok is false for an unknown one.
// There are no slabs here, so those groups are empty; of items there is one class.
func (s *Server) statsOf(group string) (lines []stat, ok bool) {
	switch group {
	case "":
		return s.stats(), true
	case "settings":
		return s.settings(), true
	case "items":
		if _, items, _ := s.cache.figures(); items > 0 {
			lines = append(lines, stat{"items:1:number", strconv.Itoa(items)})
		}
		return lines, true
	case "slabs", "sizes", "conns":
		return nil, true
	}
	return nil, false
}

func (c *session) textStats(a [][]byte) error {
	group := ""
	if len(a) > 0 {
		group = string(a[0])
	}
	if group == "reset" {
		c.s.cache.resetFigures()
		return c.say("RESET")
	}
	if group == "cachedump" {
		return c.textCacheDump(a[1:])
	}
	lines, ok := c.s.statsOf(group)
	if !ok {
		return c.say("ERROR")
	}
	for _, l := range lines {
		_ = c.say("STAT " + l.name + " " + l.value) // errors show at the flush
	}
	return c.say("END")
}
