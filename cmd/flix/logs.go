package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/services"
)

func newLogsCmd(a *app) *cobra.Command {
	var (
		o     lab.LogOptions
		since string
		out   output
	)
	c := &cobra.Command{
		Use: "logs [INSTANCE]", Short: "Logs of the instances and events of the lab", Args: cobra.MaximumNArgs(1),
		Long: `Prints what instances logged and what happened in the lab, oldest first.
INSTANCE may be a whole name, or the beginning of one: us-east, us-east/a,
us-east/a/gateway/1; lab is the lab's own events.`,
		Example: "  flix lab logs us-east/a/gateway/1 -f\n  flix lab logs us-west --since 1m\n  flix lab logs lab",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if len(args) == 1 {
				o.Instance = args[0]
			}
			if since != "" {
				d, err := time.ParseDuration(since)
				if err != nil || d < 0 {
					return services.Errorf(services.Invalid, "--since: %q is not a duration", since).WithRemedy("write it like 30s or 5m")
				}
				o.Since = time.Now().Add(-d)
			}
			p, err := lab.PathsOf(a.env.lab(), a.name)
			if err != nil {
				return err
			}
			s := a.env.out()
			err = lab.Logs(cmd.Context(), a.env.lab(), p, o, func(l lab.LogLine) error {
				if out.machine() {
					return out.item(a, json.RawMessage(l.Raw))
				}
				s.Printf("%s %-5s %-28s %s %s\n", s.Dim(l.Time.Local().Format("15:04:05.000")), l.Level, l.Instance, l.Msg, s.Dim(l.Attrs))
				return nil
			})
			if o.Follow && cmd.Context().Err() != nil {
				return nil
			}
			return err
		},
	}
	c.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on as they come")
	c.Flags().StringVar(&since, "since", "", "only what is younger, e.g. 30s or 5m")
	out.flag(c, "text", "json", "yaml")
	return c
}
