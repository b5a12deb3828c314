package traffic

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/player"
	"github.com/flix-lab/flix/lab/player/abr/sim"
	"github.com/flix-lab/flix/services"
)

// Title that a fleet may watch.
type Title struct {
	ID string
	// Countries it is licensed in; none: everywhere.
	Countries []string
	// Length of the title.
	Length time.Duration
}

// Ways to choose titles, beside a list of ids.
const (
	Zipf    = "zipf"
	Uniform = "uniform"
)

// Trace of an access link, with a name.
type Trace struct {
	Name    string
	Periods []sim.Period
}

// picker chooses what a play is like: the same for the same seed and number.
type picker struct {
	c Config
	// titles by country, the most popular first, and the sums of their weights.
	titles map[string]weighted
}

type weighted struct {
	titles []Title
	sums   []float64
}

// newPicker refuses a fleet that could not watch anything.
func newPicker(c Config) (*picker, error) {
	all := c.Titles
	zipf := c.Choose == Zipf
	if c.Choose != Zipf && c.Choose != Uniform {
		all = nil
		for id := range strings.SplitSeq(c.Choose, ",") {
			i := slices.IndexFunc(c.Titles, func(t Title) bool { return t.ID == strings.TrimSpace(id) })
			if i < 0 {
				return nil, services.Errorf(services.NotFound, "--titles: no live title has the id %q", strings.TrimSpace(id)).
					WithReason(services.ReasonNoTitle).WithRemedy("use zipf, uniform, or ids of flix title ls, with commas")
			}
			all = append(all, c.Titles[i])
		}
	}
	if len(all) == 0 {
		return nil, services.Errorf(services.NotFound, "no title is live").WithReason(services.ReasonNoTitle).WithRemedy("flix title ls lists them")
	}
	p := &picker{c: c, titles: map[string]weighted{}}
	for _, isp := range c.ISPs {
		if _, ok := p.titles[isp.Country]; ok {
			continue
		}
		var w weighted
		sum := 0.0
		for rank, t := range all {
			if len(t.Countries) > 0 && !slices.Contains(t.Countries, isp.Country) {
				continue
			}
			weight := 1.0
			if zipf {
				weight = 1 / float64(rank+1)
			}
			sum += weight
			w.titles, w.sums = append(w.titles, t), append(w.sums, sum)
		}
		if len(w.titles) == 0 {
			return nil, services.Errorf(services.Invalid, "--isps: none of the titles is licensed in %s, where %s is", isp.Country, isp.Name).
				WithReason(services.ReasonNotLicensed).WithRemedy("leave that ISP out, or choose other titles")
		}
		p.titles[isp.Country] = w
	}
	return p, nil
}

func (w weighted) pick(r *rand.Rand) Title {
	x := r.Float64() * w.sums[len(w.sums)-1]
	return w.titles[min(sort.SearchFloat64s(w.sums, x), len(w.titles)-1)]
}

// lightABR is what light players adapt by: it remembers the least.
const lightABR = "throughput"

// devices of the viewers.
var devices = [...]string{"web", "tv", "phone"}

// play describes the n-th play of a fleet, by one of its players; fan is how
// likely it is for the most popular title.
func (p *picker) play(slot, n int, fan float64) player.Options {
	c := p.c
	r := rand.New(rand.NewPCG(c.Seed, uint64(slot)<<32|uint64(n)))
	isp := c.ISPs[r.IntN(len(c.ISPs))]
	w := p.titles[isp.Country]
	title := w.pick(r)
	if r.Float64() < fan {
		title = w.titles[0]
	}
	_, home, _ := c.Topology.ISP(isp.Name)
	o := player.Options{
		Title: title.ID, ISP: isp.Name, Region: home.Name, Seed: c.Seed<<20 ^ uint64(slot),
		Device: devices[slot%len(devices)], Speed: c.Speed, Mode: c.Mode, Browse: true,
	}
	if c.Mode == player.Light {
		o.ABR = lightABR
	}
	o.Email, o.Password = c.member(slot)
	length := title.Length.Seconds()
	if c.Watch > 0 {
		o.Seconds = c.Watch.Seconds()
		length = min(length, o.Seconds)
	}
	if len(c.Traces) > 0 {
		t := c.Traces[r.IntN(len(c.Traces))]
		o.Network, o.NetworkAt = t.Periods, time.Duration(r.Float64()*float64(time.Minute))
	}
	if r.Float64() < c.Seeks {
		o.Seeks = []player.Seek{{After: length * (0.2 + 0.4*r.Float64()), To: title.Length.Seconds() * 0.8 * r.Float64()}}
	}
	if r.Float64() < c.Leaves {
		o.Leave = math.Max(length*(0.1+0.8*r.Float64()), 0.5)
	}
	return o
}
