package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func newFillCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "fill", Short: "What the appliances hold and where it came from"}
	var (
		out   output
		watch bool
	)
	status := &cobra.Command{
		Use: "status", Short: "Fill of every appliance, and the origin egress ratio", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			once := func(ctx context.Context, a *app) error {
				st, err := client.FillStatus(ctx)
				if err != nil {
					return err
				}
				return printFill(a, out, st)
			}
			if watch {
				return watched(cmd.Context(), a, out, once)
			}
			return once(cmd.Context(), a)
		},
	}
	status.Flags().BoolVarP(&watch, "watch", "w", false, "print it again every second")
	out.flag(status, "table", "json", "yaml")

	c.AddCommand(status, newFillPlanCmd(a), newFillRunCmd(a), newFillExplainCmd(a), newFillPauseCmd(a), newFillResumeCmd(a), newFillPinCmd(a), newFillUnpinCmd(a))
	return c
}

// waitingShown is how many of the titles that are not live are told one by one.
const waitingShown = 10

func printFill(a *app, out output, st control.FillStatus) error {
	if out.machine() {
		return out.print(a, st)
	}
	s := a.env.out()
	var rows [][]string
	for _, x := range st.Appliances {
		name := x.Name
		if !x.Healthy {
			name = s.Bad("○ ") + name
		}
		rows = append(rows, []string{name, x.Kind, fmt.Sprintf("%d/%d", x.Held, x.Assigned), render.Bytes(x.HeldBytes),
			render.Bytes(x.CacheFillBytes), render.Bytes(x.TierFillBytes), render.Bytes(x.PeerFillBytes), fmt.Sprintf("%s %3.0f %%", render.Bar(x.Percent, 10), x.Percent), fillNote(s, x)})
	}
	err := s.Table([]string{"appliance", "kind", "files", "held", "cache fill", "tier fill", "peer fill", "filled", "left"}, rows)
	s.Printf("unique %s · origin egress %s · ratio %s\n", render.Bytes(st.UniqueBytes), render.Bytes(st.OriginEgressBytes), s.Bold(fmt.Sprintf("%.3f", st.OriginEgressRatio)))
	if st.MissingBytes > 0 {
		s.Printf("missing %s\n", timeText(s, st.FillTime))
	}
	for _, r := range st.Rules {
		s.Printf("%s\n", s.Warn(ruleLine(r)))
	}
	if len(st.Unheld) > 0 {
		s.Printf("%s\n", s.Bad(fmt.Sprintf("no appliance holds all of %s: %s", services.Count(len(st.Unheld), "title"), someOf(st.Unheld, 10))))
	}
	for _, w := range st.WaitingFor[:min(len(st.WaitingFor), waitingShown)] {
		s.Printf("%s\n", s.Warn(fmt.Sprintf("%s is not live: %s", w.Title, w.Why)))
	}
	if n := len(st.WaitingFor) - waitingShown; n > 0 {
		s.Printf("%s\n", s.Warn(fmt.Sprintf("%d more titles are not live; flix fill status -o json lists them", n)))
	}
	for _, site := range st.UnevenSites {
		s.Printf("%s\n", s.Bad(fmt.Sprintf("the appliances of %s announce different prefixes", site)))
	}
	for _, p := range st.IgnoredPrefixes {
		s.Printf("%s\n", s.Bad(fmt.Sprintf("%s announces %s, more than one network has: it is ignored and draws nobody", p.Site, p.Prefix)))
	}
	return err
}

// fillNote is how long an appliance's rest takes, or why it does not come.
func fillNote(s render.Screen, x control.ApplianceFill) string {
	switch {
	case x.Blocked != "" && x.MissingBytes > 0:
		return s.Warn(x.Blocked)
	case x.MissingBytes > 0:
		return fmt.Sprintf("%s of at least %s", render.MS(float64(x.ETAMS)), render.MS(float64(x.BoundMS)))
	}
	return ""
}

// timeText is what is missing and how long it takes beside the lower bound.
func timeText(s render.Screen, t control.FillTime) string {
	text := render.Bytes(t.MissingBytes)
	if t.OriginBytes > 0 {
		text += fmt.Sprintf(", %s of it from the object stores", render.Bytes(t.OriginBytes))
	}
	if t.RateBPS > 0 {
		text += fmt.Sprintf(" · %.3g Mbit/s", float64(t.RateBPS)/1e6)
	}
	if t.ETAMS < 0 {
		text += " · " + s.Warn("part of it does not come as things are")
	} else {
		text += " · ETA " + render.MS(float64(t.ETAMS))
	}
	text += " · lower bound " + render.MS(float64(t.BoundMS))
	if t.BoundBy != "" {
		text += " (" + t.BoundBy + ")"
	}
	return text
}

// someOf lists at most so many names.
func someOf(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}

func newTranscodeCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "transcode", Short: "Transcode jobs"}
	var out output
	status := &cobra.Command{
		Use: "status", Short: "State of the transcode jobs", Args: cobra.NoArgs,
		RunE: show(a, &out, func(ctx context.Context, c *control.Client) (jobs, error) {
			js, err := c.Jobs(ctx)
			return jobs{js}, err
		}, func(js jobs) error {
			s := a.env.out()
			if len(js.Jobs) == 0 {
				s.Printf("no job yet; start one: flix title add FILE --name \"NAME\"\n")
				return nil
			}
			var rows [][]string
			for _, j := range js.Jobs {
				rows = append(rows, []string{j.ID, j.Name, j.Region, s.State(j.State), fmt.Sprintf("%.0f %%", j.Percent), j.Error})
			}
			return s.Table([]string{"job", "title", "region", "state", "done", "error"}, rows)
		}),
	}
	out.flag(status, "table", "json", "yaml")
	c.AddCommand(status)
	return c
}
