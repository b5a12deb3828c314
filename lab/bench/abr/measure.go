package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/lab/player/abr/sim"
)

type options struct {
	only  string
	worst int
	quick bool
}

// contender is an algorithm in one variant.
type contender struct {
	label, name string
	variant     abr.Variant
}

// contenders: the default first, then those it is measured against, then robust
// MPC, which is shown.
func contenders(quick bool) []contender {
	out := []contender{
		{"default", "default", abr.Calm}, {"throughput", "throughput", abr.Calm},
		{"bola", "bola", abr.Calm}, {"bolae", "bolae", abr.Calm}, {"dynamic", "dynamic", abr.Calm},
	}
	if !quick {
		out = append(out, contender{"bola-u", "bola", abr.Eager}, contender{"bolae-u", "bolae", abr.Eager}, contender{"dynamic-u", "dynamic", abr.Eager}, contender{"mpc", "mpc", abr.Calm})
	}
	return out
}

// load reads a set: NAME,MOVIE,SECONDS,DIR[,EVERY].
func load(spec string) (set, error) {
	p := strings.Split(spec, ",")
	if len(p) < 4 {
		return set{}, fmt.Errorf("-set %s: write NAME,MOVIE,SECONDS,DIR[,EVERY]", spec)
	}
	seconds, err := strconv.ParseFloat(p[2], 64)
	if err != nil {
		return set{}, fmt.Errorf("-set %s: %w", spec, err)
	}
	every := 1
	if len(p) > 4 {
		if every, err = strconv.Atoi(p[4]); err != nil || every < 1 {
			return set{}, fmt.Errorf("-set %s: EVERY is a number above 0", spec)
		}
	}
	s := set{name: p[0], kind: p[0], bufferS: seconds}
	b, err := os.Open(p[1])
	if err != nil {
		return set{}, err
	}
	defer b.Close()
	if s.movie, err = sim.ParseMovie(b, p[1]); err != nil {
		return set{}, err
	}
	names, err := filepath.Glob(filepath.Join(p[3], "*.json"))
	if err != nil || len(names) == 0 {
		return set{}, fmt.Errorf("-set %s: no trace in %s", spec, p[3])
	}
	for i := 0; i < len(names); i += every {
		f, err := os.Open(names[i])
		if err != nil {
			return set{}, err
		}
		trace, err := sim.ParseNetwork(f, names[i])
		f.Close()
		if err != nil {
			return set{}, err
		}
		s.traces = append(s.traces, named{filepath.Base(names[i]), trace})
	}
	return s, nil
}

// play one set: [contender][trace].
func (s set) play(ctx context.Context, who []contender) ([][]sim.Result, error) {
	out := make([][]sim.Result, len(who))
	for i := range out {
		out[i] = make([]sim.Result, len(s.traces))
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		fail error
		slot = make(chan struct{}, runtime.GOMAXPROCS(0))
	)
	for t := range s.traces {
		slot <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slot }()
			for i, c := range who {
				algo, err := abr.New(c.name, s.movie, s.bufferS*1000, c.variant)
				if err == nil {
					out[i][t], err = sim.Play(s.movie, s.traces[t].trace, s.bufferS*1000, algo)
				}
				if err != nil {
					mu.Lock()
					fail = fmt.Errorf("%s %s %s: %w", s.name, s.traces[t].name, c.label, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	if fail == nil {
		fail = ctx.Err()
	}
	return out, fail
}

// verdict of the default over a set.
type verdict struct {
	means []float64
	// margin of the default's mean over the best other's, relative.
	margin float64
	// rivals is the index of the best.
	rival int
	// worst is the default's relative margin on its worst trace over the best
	// of the others there, below how many fall short by more than a twentieth.
	worst  float64
	at     int
	below  int
	ranked []int // traces, the default's worst first
	per    []float64
}

// relative is how far x is above y, in shares of y.
func relative(x, y float64) float64 { return (x - y) / max(math.Abs(y), 1e-9) }

// allowed is how far below the best of the others one trace may be.
const allowed = 0.05

func judge(results [][]sim.Result, who []contender) verdict {
	v := verdict{rival: 1}
	for _, row := range results {
		sum := 0.0
		for _, x := range row {
			sum += x.Score / float64(len(row))
		}
		v.means = append(v.means, sum)
	}
	for i := range who {
		if i > 0 && who[i].name != "mpc" && v.means[i] > v.means[v.rival] {
			v.rival = i
		}
	}
	v.margin = relative(v.means[0], v.means[v.rival])
	v.worst = math.Inf(1)
	for t := range results[0] {
		best := math.Inf(-1)
		for i := range who {
			if i > 0 && who[i].name != "mpc" {
				best = max(best, results[i][t].Score)
			}
		}
		m := relative(results[0][t].Score, best)
		v.per = append(v.per, m)
		v.ranked = append(v.ranked, t)
		if m < v.worst {
			v.worst, v.at = m, t
		}
		if m < -allowed {
			v.below++
		}
	}
	slices.SortFunc(v.ranked, func(a, b int) int {
		if v.per[a] < v.per[b] {
			return -1
		}
		return 1
	})
	return v
}

func measure(ctx context.Context, sets []set, o options) error {
	who := contenders(o.quick)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "set\tbuffer\ttraces\t")
	for _, c := range who {
		fmt.Fprint(w, c.label, "\t")
	}
	fmt.Fprintln(w, "best other\tmargin\tby utility\tby stalls\tworst trace\tbelow 5 %\t")
	missed, kinds := 0, tallies{}
	for _, s := range sets {
		if !strings.Contains(s.name, o.only) {
			continue
		}
		results, err := s.play(ctx, who)
		if err != nil {
			return err
		}
		v := judge(results, who)
		d := against(results[0], results[v.rival])
		kinds.of(s.kind).add(v, d)
		fmt.Fprintf(w, "%s\t%g s\t%d\t", s.name, s.bufferS, len(s.traces))
		for _, m := range v.means {
			fmt.Fprintf(w, "%.3f\t", m)
		}
		fmt.Fprintf(w, "%s\t%+.1f %%\t%+.3f\t%+.3f\t%+.1f %%\t%d\t\n", who[v.rival].label, 100*v.margin, d.utility, d.stalls, 100*v.worst, v.below)
		if v.margin <= 0 || v.below > 0 {
			missed++
		}
		for _, t := range v.ranked[:min(o.worst, len(v.ranked))] {
			fmt.Fprintf(w, "  %s\t\t\t", s.traces[t].name)
			for i := range who {
				fmt.Fprintf(w, "%.3f\t", results[i][t].Score)
			}
			d := against(results[0][t:t+1], results[v.rival][t:t+1])
			fmt.Fprintf(w, "\t%+.1f %%\t%+.3f\t%+.3f\t\t\t\n", 100*v.per[t], d.utility, d.stalls)
		}
		if o.worst > 0 {
			w.Flush()
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Println()
	if err := kinds.write(os.Stdout); err != nil {
		return err
	}
	fmt.Printf("\nmargin: of the default's mean over the best of throughput, BOLA, BOLA-E and DYNAMIC in both variants (target: above 0).\nby utility, by stalls: what of it each term of the score brings.\nworst trace: the default against the best of them there (target: not below -5 %%).\n* held out: never looked at while the default was made. %d sets miss a target.\n", missed)
	return nil
}
