package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

const (
	// lookAgain is the pause between two readings of what is still missing.
	lookAgain = 200 * time.Millisecond
	// readTime bounds one reading: a region that does not answer is taken to be
	// down at that moment.
	readTime = 5 * time.Second
)

// found is what one region has shown.
type found struct {
	up      bool
	missing map[Kind]map[string]bool
}

// Judge reads the acknowledged writes back from every region, again and again
// until all that answer have all of them or the wait is over, and fills the
// report's kinds, regions and verdict. It fails with services.ReasonDataLost
// when a global or SQL write is lost, and with services.Unavailable when no
// region answers.
func Judge(ctx context.Context, rep *control.Check, writes map[Kind]*Writes, regions map[string]Reader, wait time.Duration) error {
	state := map[string]*found{}
	for name := range regions {
		f := &found{missing: map[Kind]map[string]bool{}}
		for kind, w := range writes {
			f.missing[kind] = map[string]bool{}
			for _, e := range w.Entries {
				f.missing[kind][e.Key] = true
			}
		}
		state[name] = f
	}
	values := map[Kind]map[string]string{}
	for kind, w := range writes {
		values[kind] = map[string]string{}
		for _, e := range w.Entries {
			values[kind][e.Key] = e.Value
		}
	}
	deadline := time.Now().Add(wait)
	for {
		var wg sync.WaitGroup
		for name, r := range regions {
			wg.Go(func() { state[name].look(ctx, r, values) })
		}
		wg.Wait()
		if err := ctx.Err(); err != nil {
			return err
		}
		if whole(state) || time.Now().After(deadline) {
			return sum(rep, writes, state)
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look asks a region for what it has not shown yet.
func (f *found) look(ctx context.Context, r Reader, values map[Kind]map[string]string) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	f.up = true
	for _, kind := range Kinds {
		if len(values[kind]) == 0 {
			continue
		}
		// Also a region that misses nothing is asked, for one: is it up?
		ask := slices.Collect(maps.Keys(f.missing[kind]))
		if len(ask) == 0 {
			for key := range values[kind] {
				ask = []string{key}
				break
			}
		}
		there, err := r.All(ctx, kind, ask)
		if err != nil {
			f.up = false
			return
		}
		for key, v := range there {
			if v == values[kind][key] {
				delete(f.missing[kind], key)
			}
		}
	}
}

// whole says whether a region answers and those that do miss nothing.
func whole(state map[string]*found) bool {
	any := false
	for _, f := range state {
		if !f.up {
			continue
		}
		any = true
		for _, m := range f.missing {
			if len(m) > 0 {
				return false
			}
		}
	}
	return any
}

func sum(rep *control.Check, writes map[Kind]*Writes, state map[string]*found) error {
	up := 0
	for _, name := range slices.Sorted(maps.Keys(state)) {
		f := state[name]
		r := control.CheckRegion{Region: name, Up: f.up, Missing: map[string]int{}}
		if f.up {
			up++
			for kind, m := range f.missing {
				r.Missing[string(kind)] = len(m)
			}
		}
		rep.Regions = append(rep.Regions, r)
	}
	for _, kind := range Kinds {
		if w := writes[kind]; w != nil {
			rep.Kinds = append(rep.Kinds, tally(kind, w, state))
		}
	}
	if up == 0 {
		return services.Errorf(services.Unavailable, "no region answers: the writes could not be read back").
			WithRemedy("bring a region up (flix lab up); the log of the writes is %s", rep.Log)
	}
	return verdict(rep)
}

// tally counts what is lost of a kind: acknowledged, and in no region that
// answers. The ages are counted back from the last acknowledgement, which is
// the last sign of life where a region was lost.
func tally(kind Kind, w *Writes, state map[string]*found) control.CheckKind {
	k := control.CheckKind{Kind: string(kind), Attempted: w.Attempted, Acknowledged: len(w.Entries), Refused: w.Refused}
	if w.Refusal != nil {
		k.Refusal = w.Refusal.Error()
	}
	var last, oldest, newest time.Time
	for _, e := range w.Entries {
		if e.At.After(last) {
			last = e.At
		}
		if !lost(kind, e.Key, state) {
			continue
		}
		k.Lost++
		if e.At.After(newest) {
			newest = e.At
		}
		if oldest.IsZero() || e.At.Before(oldest) {
			oldest = e.At
		}
	}
	if k.Lost > 0 {
		k.LostNewestAgeMS, k.LostOldestAgeMS = ms(last.Sub(newest)), ms(last.Sub(oldest))
	}
	return k
}

func lost(kind Kind, key string, state map[string]*found) bool {
	for _, f := range state {
		if f.up && !f.missing[kind][key] {
			return false
		}
	}
	return true
}

// verdict says in words what the figures mean.
func verdict(rep *control.Check) error {
	var parts, bad []string
	refused := 0
	for _, k := range rep.Kinds {
		refused += k.Refused
		switch {
		case k.Lost == 0:
		case k.Kind == string(Local):
			parts = append(parts, fmt.Sprintf("%d local writes are lost, acknowledged in the last %.0f ms before the loss: the replication lag, which a local namespace permits", k.Lost, k.LostOldestAgeMS))
		default:
			bad = append(bad, fmt.Sprintf("%d acknowledged %s writes are LOST", k.Lost, k.Kind))
		}
	}
	if len(bad)+len(parts) == 0 {
		parts = append(parts, "nothing acknowledged is lost")
	} else if len(bad) == 0 {
		parts = append(parts, "no global and no SQL write is lost")
	}
	var behind, down []string
	for _, r := range rep.Regions {
		n := 0
		for _, m := range r.Missing {
			n += m
		}
		switch {
		case !r.Up:
			down = append(down, r.Region)
		case n > 0:
			behind = append(behind, fmt.Sprintf("%s (%d)", r.Region, n))
		}
	}
	if len(behind) > 0 {
		parts = append(parts, "not everywhere yet: missing in "+strings.Join(behind, ", "))
	}
	if len(down) > 0 {
		parts = append(parts, strings.Join(down, ", ")+" did not answer")
	}
	if refused > 0 {
		parts = append(parts, fmt.Sprintf("%d writes were refused", refused))
	}
	rep.Verdict = strings.Join(append(bad, parts...), "; ")
	if len(bad) > 0 {
		return services.Errorf(services.Internal, "%s", strings.Join(bad, "; ")).WithReason(services.ReasonDataLost).
			WithRemedy("which ones: compare %s with the stores; flix events shows what happened meanwhile", rep.Log)
	}
	return nil
}
