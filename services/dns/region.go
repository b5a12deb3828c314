package dns

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"github.com/flix-lab/flix/topology"
)

// PropWeights is the property that moves clients between regions: a JSON
// object of region to share, e.g. {"us-east": 0.25}.
const PropWeights = "dns.weights"

// PropLeaving is the property that names the regions whose clients are about to be
// moved: a JSON list, e.g. ["us-east"]. Answers that lead there are kept for
// topology.Timing's LeavingTTL.
const PropLeaving = "dns.leaving"

// parseLeaving reads the property; "" is no region.
func parseLeaving(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	var regions []string
	if err := json.Unmarshal([]byte(s), &regions); err != nil {
		return nil, fmt.Errorf("%s: want a JSON list of regions: %w", PropLeaving, err)
	}
	return regions, nil
}

// Weights say which share of its clients, 0 to 1, a region keeps; a region
// that is not named keeps all. The rest go to the nearest region that takes
// them. Which clients stay is decided by their subnet: it does not change
// from one answer to the next, and a smaller share is a subset of a larger.
type Weights map[string]float64

// parseWeights reads the property; "" is no weights.
func parseWeights(s string) (Weights, error) {
	if s == "" {
		return nil, nil
	}
	var w Weights
	if err := json.Unmarshal([]byte(s), &w); err != nil {
		return nil, fmt.Errorf("%s: want a JSON object of region to share: %w", PropWeights, err)
	}
	for _, r := range slices.Sorted(maps.Keys(w)) {
		if v := w[r]; v < 0 || v > 1 || math.IsNaN(v) {
			return nil, fmt.Errorf("%s: %s: %v is outside 0 to 1", PropWeights, r, v)
		}
	}
	return w, nil
}

func (w Weights) of(region string) float64 {
	if v, ok := w[region]; ok {
		return v
	}
	return 1
}

// plan is everything an answer depends on apart from health; immutable.
type plan struct {
	own     string
	homes   bart.Table[string]  // network to the region near it
	nearest map[string][]string // regions by distance, itself first
	weights Weights
	leaving []string
	rtt     map[string]time.Duration // from here
}

func newPlan(t topology.Topology, own string, w Weights, leaving []string) *plan {
	p := &plan{own: own, nearest: map[string][]string{own: t.Nearest(own)}, weights: w, leaving: leaving, rtt: map[string]time.Duration{}}
	for _, r := range t.Regions {
		p.nearest[r.Name], p.rtt[r.Name] = t.Nearest(r.Name), t.RTT(own, r.Name).D()
		for _, isp := range r.ISPs {
			for _, prefix := range isp.Prefixes {
				p.homes.Insert(prefix, r.Name)
			}
		}
	}
	return p
}

// home is the region near the client's subnet and how many bits of the
// address decided so.
func (p *plan) home(client netip.Prefix) (region string, bits int) {
	if client.IsValid() {
		host := netip.PrefixFrom(client.Addr(), client.Addr().BitLen())
		if m, r, ok := p.homes.LookupPrefixLPM(host); ok {
			return r, m.Bits()
		}
	}
	return p.own, 0
}

// choose returns the region for a client, "" if none is healthy and wanted.
// Each region, nearest to the client's home first, takes its share of those
// that reach it; if shares leave somebody over, the nearest with any share
// takes them.
func (p *plan) choose(client netip.Prefix, name string, healthy func(region string) bool) (region string, bits int) {
	home, bits := p.home(client)
	spare := ""
	for _, r := range p.nearest[home] {
		share := p.weights.of(r)
		if share <= 0 || !healthy(r) {
			continue
		}
		if share >= 1 || draw(client, name, r) < share {
			return r, bits
		}
		if spare == "" {
			spare = r
		}
	}
	return spare, bits
}

// draw is a number in [0,1) that a client subnet, a name and a region always
// give alike, evenly spread over subnets.
func draw(client netip.Prefix, name, region string) float64 {
	h := fnv.New64a()
	// A hash never fails to write.
	b, _ := client.MarshalBinary()
	_, _ = h.Write(b)
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(name))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(region))
	return float64(mix(h.Sum64())>>11) / (1 << 53)
}

// mix spreads the last bytes of an FNV hash over its high bits (the finaliser
// of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
