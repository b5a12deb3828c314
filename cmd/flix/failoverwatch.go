package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/evacuate"
)

func newFailoverWatchCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "watch", Short: "Evacuate a region by itself when it is sick", Args: cobra.NoArgs,
		Long: `Watches every region for the symptoms of a sick one: fewer plays begin than were
to be expected, requests fail, or gateways and services are gone. A symptom has
to stay for five seconds, and ends only well on the other side of its threshold;
after an evacuation the watch rests for five minutes. It never evacuates the
last region that is well, and returns no traffic by itself.

Without a word more it watches in the foreground until Ctrl-C. "on" leaves that
to the lab's daemon, "off" ends it; it is off unless switched on.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runFailoverWatch(cmd.Context(), a) },
	}
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
		return fmt.Sprintf("%-10s %s  %.1f starts/s, %.1f expected", x.Region, s.Good("● well"), x.Starts, x.Forecast)
	}
	return fmt.Sprintf("%-10s %s  %s, for %.0f s", x.Region, s.Bad("○ sick"), x.Text, x.ForS)
}

// runFailoverWatch watches in the foreground.
func runFailoverWatch(ctx context.Context, a *app) error {
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	msg := a.env.errOut()
	msg.Printf("watching; Ctrl-C ends it\n")
	sentinel := evacuate.NewSentinel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	was := map[string]string{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		all, err := client.Vitals(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, x := range sentinel.Look(time.Now(), all) {
			if now := x.Text; (now == "") != (was[x.Region] == "") {
				a.env.out().Printf("%s %s\n", time.Now().Format("15:04:05"), symptomText(a.env.out(), x))
				was[x.Region] = now
			}
			if !x.Evacuate {
				continue
			}
			view := newMoveView(msg, "failover")
			rep, err := client.Failover(ctx, control.FailoverRequest{Region: x.Region}, view.heard)
			view.close()
			if err != nil {
				return err
			}
			printMove(a, rep)
		}
	}
}
