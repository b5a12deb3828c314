package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/evacuate"
	"github.com/flix-lab/flix/services"
)

func newFailoverWatchCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "watch", Short: "Evacuate a region by itself when it is sick", Args: cobra.NoArgs,
		Long: `Watches every region for the symptoms of a sick one: fewer plays begin than were
to be expected, requests fail, or gateways and services are gone. Plays
that are to begin are judged by themselves: they are few among all requests. A
symptom has to show still after five seconds, and ends only well on the other
side of its threshold. After an evacuation the watch rests for five minutes; one
that fails or is refused is tried again after 15 s, and each time later, while
the region is sick. It never evacuates the last region that is well, and returns
no traffic by itself.

Without a word more it watches in the foreground until Ctrl-C; -o json has a
line for each region that turns sick or well, is evacuated or cannot be. "on"
leaves that to the lab's daemon, "off" ends it; it is off unless switched on.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runFailoverWatch(cmd.Context(), a, out) },
	}
	out.flag(c, "text", "json", "yaml")
	for _, v := range []struct {
		verb, short string
		on          bool
	}{{"on", "The daemon watches from now on", true}, {"off", "The daemon watches no longer", false}} {
		c.AddCommand(newWatchStateCmd(a, v.verb, v.short, func(ctx context.Context, cl *control.Client) (control.FailoverWatch, error) {
			return cl.SetFailoverWatch(ctx, control.FailoverWatchRequest{On: v.on})
		}))
	}
	c.AddCommand(newWatchStateCmd(a, "status", "Whether the daemon watches, and what it sees", func(ctx context.Context, cl *control.Client) (control.FailoverWatch, error) {
		return cl.FailoverWatch(ctx)
	}))
	return c
}

func newWatchStateCmd(a *app, verb, short string, do func(context.Context, *control.Client) (control.FailoverWatch, error)) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: verb, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			w, err := do(cmd.Context(), client)
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, w)
			}
			s := a.env.out()
			if !w.On {
				s.Printf("regions are not watched\n")
				return nil
			}
			s.Printf("regions are watched\n")
			for _, x := range w.Regions {
				s.Printf("  %s\n", symptomText(s, x))
			}
			return nil
		},
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

func symptomText(s render.Screen, x control.Symptom) string {
	if x.Text == "" {
		return fmt.Sprintf("%-12s %s  %.1f starts/s, %.1f expected", x.Region, s.Good("● well"), x.Starts, x.Forecast)
	}
	return fmt.Sprintf("%-12s %s  %s, for %.0f s", x.Region, s.Bad("○ sick"), x.Text, x.ForS)
}

// watchEntry is one thing that a watch in the foreground says: a region turned
// sick or well, or was evacuated, or could not be.
type watchEntry struct {
	At time.Time `json:"at"`
	// Kind is sick, well, evacuated or failed.
	Kind string `json:"kind"`
	control.Symptom
	// Error says why a region could not be evacuated, AgainS after how many
	// seconds it is tried again if it stays sick; Report is what came of it.
	Error  string            `json:"error,omitempty"`
	AgainS float64           `json:"again_s,omitempty"`
	Report *control.Failover `json:"report,omitempty"`
}

// failoverWatch watches in the foreground.
type failoverWatch struct {
	a        *app
	out      output
	client   *control.Client
	sentinel *evacuate.Sentinel
	was      map[string]string // symptoms, by region
	silent   bool              // nothing answered the latest look
}

func runFailoverWatch(ctx context.Context, a *app, out output) error {
	if err := out.check(); err != nil {
		return err
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	w := &failoverWatch{a: a, out: out, client: client, sentinel: evacuate.NewSentinel(), was: map[string]string{}}
	a.env.errOut().Printf("watching; Ctrl-C ends it\n")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := w.look(ctx); err != nil || ctx.Err() != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// look takes one look. A daemon that died is started anew; hosts that do not
// answer do so at the next look, or are a symptom.
func (w *failoverWatch) look(ctx context.Context) error {
	all, err := w.client.Vitals(ctx)
	if errors.Is(err, control.ErrNoDaemon) {
		w.client, _, err = lab.Connect(ctx, w.a.env.lab(), w.a.name)
		return err
	}
	if err != nil && services.KindOf(err) != services.Unavailable {
		return err
	}
	if err != nil {
		if !w.silent && ctx.Err() == nil {
			w.a.env.errOut().Printf("nothing is seen of the lab: %v\n", err)
		}
		w.silent = true
		return nil
	}
	w.silent = false
	for _, x := range w.sentinel.Look(time.Now(), all) {
		if (x.Text == "") != (w.was[x.Region] == "") {
			kind := "sick"
			if x.Text == "" {
				kind = "well"
			}
			if err := w.say(watchEntry{Kind: kind, Symptom: x}); err != nil {
				return err
			}
			w.was[x.Region] = x.Text
		}
		if x.Evacuate {
			if err := w.evacuate(ctx, x); err != nil {
				return err
			}
		}
	}
	return nil
}

// evacuate moves a sick region. One that somebody else moves, or that cannot be
// moved, does not end the watch.
func (w *failoverWatch) evacuate(ctx context.Context, x control.Symptom) error {
	view := newMoveView(w.a.env.errOut(), "failover")
	rep, err := w.client.Failover(ctx, control.FailoverRequest{Region: x.Region}, view.heard)
	view.close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	wait := w.sentinel.Ended(time.Now(), x.Region, rep.State == evacuate.Done)
	if err != nil {
		return w.say(watchEntry{Kind: "failed", Symptom: x, Error: err.Error(), AgainS: wait.Seconds()})
	}
	delete(w.was, x.Region)
	return w.say(watchEntry{Kind: "evacuated", Symptom: x, Report: &rep})
}

// say tells something to a person or a program.
func (w *failoverWatch) say(e watchEntry) error {
	e.At = time.Now().UTC()
	if w.out.machine() {
		return w.out.item(w.a, e)
	}
	s := w.a.env.out()
	at := e.At.Local().Format(time.TimeOnly)
	switch e.Kind {
	case "evacuated":
		printMove(w.a, *e.Report)
	case "failed":
		s.Printf("%s %-12s %s; if it stays sick, it is tried again in %.0f s\n", at, e.Region, s.Bad("could not be evacuated: "+e.Error), e.AgainS)
	default:
		s.Printf("%s %s\n", at, symptomText(s, e.Symptom))
	}
	return nil
}
