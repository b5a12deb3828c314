package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
)

func newFillCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "fill", Short: "What the appliances hold and where it came from", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
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
			for {
				st, err := client.FillStatus(cmd.Context())
				if err != nil {
					return err
				}
				if watch && a.env.OutTTY && !out.machine() {
					a.env.out().Printf("\x1b[H\x1b[2J")
				}
				if err := printFill(a, out, st); err != nil || !watch {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(time.Second):
				}
			}
		},
	}
	status.Flags().BoolVarP(&watch, "watch", "w", false, "print it again every second")
	out.flag(status, "table", "json", "yaml")

	var (
		req    control.FillRunRequest
		runOut output
	)
	run := &cobra.Command{
		Use: "run", Short: "Compare disks with plans and fill what is missing", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := runOut.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			res, err := client.FillRun(cmd.Context(), req)
			if err != nil {
				return err
			}
			if runOut.machine() {
				return runOut.print(a, res)
			}
			a.env.out().Printf("%d appliances compare their disks with their plans; flix fill status shows what comes of it\n", res.Appliances)
			return nil
		},
	}
	run.Flags().BoolVar(&req.Now, "now", false, "fill at once, outside the window too")
	run.Flags().BoolVar(&req.Deep, "deep", false, "read every stored byte again and check it")
	runOut.flag(run, "text", "json")
	c.AddCommand(status, run)
	return c
}

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
			render.Bytes(x.CacheFillBytes), render.Bytes(x.TierFillBytes), render.Bytes(x.PeerFillBytes), fmt.Sprintf("%s %3.0f %%", render.Bar(x.Percent, 10), x.Percent)})
	}
	err := s.Table([]string{"appliance", "kind", "files", "held", "cache fill", "tier fill", "peer fill", "filled"}, rows)
	s.Printf("unique %s · origin egress %s · ratio %s\n", render.Bytes(st.UniqueBytes), render.Bytes(st.OriginEgressBytes), s.Bold(fmt.Sprintf("%.3f", st.OriginEgressRatio)))
	return err
}

func newTranscodeCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "transcode", Short: "Transcode jobs", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var out output
	status := &cobra.Command{
		Use: "status", Short: "State of the transcode jobs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			jobs, err := client.Jobs(cmd.Context())
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, map[string]any{"jobs": jobs})
			}
			s := a.env.out()
			if len(jobs) == 0 {
				s.Printf("no job yet; start one: flix title add FILE --name \"NAME\"\n")
				return nil
			}
			var rows [][]string
			for _, j := range jobs {
				rows = append(rows, []string{j.ID, j.Name, j.Region, s.State(j.State), fmt.Sprintf("%.0f %%", j.Percent), j.Error})
			}
			return s.Table([]string{"job", "title", "region", "state", "done", "error"}, rows)
		},
	}
	out.flag(status, "table", "json", "yaml")
	c.AddCommand(status)
	return c
}
