package gateway

import (
	"strconv"
	"strings"

	api "github.com/flix-lab/flix/services/edge"
)

// LoadHeader carries what a server says of its load with an answer: the lab's
// own by package edge, others of the same form. Clients do not get to see it.
const LoadHeader = api.HeaderLoad

// loadNames are the metrics that are a share of the server in use, the one that
// says most first.
var loadNames = [...]string{"application_utilization", "cpu_utilization", "mem_utilization"}

// maxLoadHeader bounds what is read of the header, in bytes.
const maxLoadHeader = 512

// utilisation reads the share of a server in use, 0 to 1 and more when it is
// overloaded. It never fails: what it does not understand is no news.
func utilisation(header string) (u float64, ok bool) {
	if len(header) > maxLoadHeader {
		return 0, false
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(header), "TEXT")
	if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
		return 0, false
	}
	best := len(loadNames)
	for rest != "" {
		var pair string
		pair, rest, _ = strings.Cut(rest, ",")
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		name = strings.TrimSpace(name)
		for k := range best {
			if loadNames[k] != name {
				continue
			}
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err == nil && v >= 0 && v <= 1e6 { // false for NaN
				u, best = v, k
			}
			break
		}
	}
	return u, best < len(loadNames)
}
