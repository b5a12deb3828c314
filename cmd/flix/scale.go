package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/autoscale"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

const scaleHelp = `A policy keeps a service at a target: what each of its instances has to do, as
measured by the instances themselves. It may have a timetable with minimums, and
scale up ahead of a trend. An instance that is added registers and takes load;
one that is taken away is drained first. What the topology declares always
stays.`

func newScaleCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "scale", Short: "Autoscaling policies", Long: scaleHelp,
		Example: "  flix scale ls\n  flix scale set play --region us-east --target 2 --max 6\n  flix scale set gateway --metric rate --target 50 --predict 10s\n  flix scale set license --max 4 --schedule 18:00-23:30=4",
	}
	c.AddCommand(newScaleLsCmd(a), newScaleSetCmd(a), newScaleRmCmd(a),
		newScaleHoldCmd(a, "pause", "Keep what there is, whatever the load", control.ScaleRequest{Pause: true}),
		newScaleHoldCmd(a, "resume", "Let policies decide again", control.ScaleRequest{Resume: true}), newScaleIdleCmd(a))
	return c
}

func newScaleLsCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "ls", Short: "Services with their policies and loads", Args: cobra.NoArgs,
		Long: "Lists every service that can be scaled. Rate, concurrency and utilisation are of\nan instance, on average: since the last look for one without a policy.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runScale(cmd.Context(), a, out, func(ctx context.Context, c *control.Client) (control.Scale, error) { return c.Scale(ctx) })
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

// scaleSetOptions are the flags of "scale set".
type scaleSetOptions struct {
	region, metric, schedule        string
	min, max                        int
	target                          float64
	upCool, downCool, warm, predict time.Duration
	out                             output
}

func newScaleSetCmd(a *app) *cobra.Command {
	o := scaleSetOptions{}
	c := &cobra.Command{
		Use: "set ROLE", Short: "Set a policy, or a part of one", Args: cobra.ExactArgs(1), Long: scaleHelp,
		Example: "  flix scale set play --target 2 --max 6\n  flix scale set play --min 3 --schedule 08:00-20:00=4,20:00-23:00=6",
		RunE: func(cmd *cobra.Command, args []string) error {
			ch, err := o.change(cmd)
			if err != nil {
				return err
			}
			r := control.ScaleRequest{Region: o.region, Role: topology.Role(args[0]), Set: &ch}
			return runScale(cmd.Context(), a, o.out, func(ctx context.Context, c *control.Client) (control.Scale, error) { return c.SetScale(ctx, r) })
		},
	}
	d := autoscale.Defaults(2)
	f := c.Flags()
	f.StringVar(&o.region, "region", "", "only in this region; without, in all")
	f.IntVar(&o.min, "min", 0, "least instances; at first what the topology declares")
	f.IntVar(&o.max, "max", 0, "most instances; at first twice what the topology declares, and at least two more")
	f.StringVar(&o.metric, "metric", d.Metric, "concurrency, rate (requests per second) or utilisation (0 to 1), of an instance")
	f.Float64Var(&o.target, "target", 0, "what the metric is kept at; 0 follows the timetable only")
	f.DurationVar(&o.upCool, "up-cooldown", d.UpCooldown, "wait after a growth until the next")
	f.DurationVar(&o.downCool, "down-cooldown", d.DownCooldown, "wait after any change until it shrinks")
	f.DurationVar(&o.warm, "warm-up", d.WarmUp, "time until a new instance counts")
	f.DurationVar(&o.predict, "predict", 0, "scale up for where the trend leads to in so much time")
	f.StringVar(&o.schedule, "schedule", "", "minimums by time of the day, e.g. 08:00-20:00=4,20:00-23:30=8; \"\" drops them")
	o.out.flag(c, "table", "json", "yaml")
	return c
}

// change holds the flags that were given.
func (o *scaleSetOptions) change(cmd *cobra.Command) (control.ScaleChange, error) {
	ch := control.ScaleChange{
		Min: given(cmd, "min", &o.min), Max: given(cmd, "max", &o.max), Metric: given(cmd, "metric", &o.metric), Target: given(cmd, "target", &o.target),
		UpCooldown: given(cmd, "up-cooldown", &o.upCool), DownCooldown: given(cmd, "down-cooldown", &o.downCool),
		WarmUp: given(cmd, "warm-up", &o.warm), Predict: given(cmd, "predict", &o.predict),
	}
	if cmd.Flags().Changed("schedule") {
		ws, err := autoscale.ParseSchedule(o.schedule)
		if err != nil {
			return ch, err
		}
		ch.Schedule = &ws
	}
	if math.IsNaN(o.target) || math.IsInf(o.target, 0) {
		return ch, services.Errorf(services.Invalid, "--target: %g is no number to keep to", o.target).WithRemedy("write it like 2, or 0 to follow the timetable only")
	}
	if ch == (control.ScaleChange{}) {
		return ch, services.Errorf(services.Invalid, "nothing was said of the policy").WithRemedy("set at least --target, --schedule, --min or --max")
	}
	return ch, nil
}

// given is where a flag's value is if somebody set it, else nil.
func given[T any](cmd *cobra.Command, name string, value *T) *T {
	if cmd.Flags().Changed(name) {
		return value
	}
	return nil
}

// newScaleRmCmd removes policies.
func newScaleRmCmd(a *app) *cobra.Command {
	var (
		r   control.ScaleRequest
		out output
	)
	c := &cobra.Command{
		Use: "rm ROLE", Short: "Remove a policy; what it added is drained and goes", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Role, r.Remove = topology.Role(args[0]), true
			return runScale(cmd.Context(), a, out, func(ctx context.Context, c *control.Client) (control.Scale, error) { return c.SetScale(ctx, r) })
		},
	}
	c.Flags().StringVar(&r.Region, "region", "", "only in this region; without, in all")
	out.flag(c, "table", "json", "yaml")
	return c
}

// newScaleHoldCmd pauses or resumes policies.
func newScaleHoldCmd(a *app, verb, short string, r control.ScaleRequest) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: verb + " [ROLE]", Short: short, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				r.Role = topology.Role(args[0])
			}
			return runScale(cmd.Context(), a, out, func(ctx context.Context, c *control.Client) (control.Scale, error) { return c.SetScale(ctx, r) })
		},
	}
	c.Flags().StringVar(&r.Region, "region", "", "only in this region; without, in all")
	out.flag(c, "table", "json", "yaml")
	return c
}

func newScaleIdleCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "idle DURATION|off", Short: "Stop the lab when nobody asks for anything for so long", Args: cobra.ExactArgs(1),
		Long:    "Stops the whole lab, its data kept, once no client has asked for anything for a\ntime. It is off unless set; flix lab start starts the lab again.",
		Example: "  flix scale idle 30m\n  flix scale idle off",
		RunE: func(cmd *cobra.Command, args []string) error {
			ms := 0.0
			if args[0] != "off" {
				d, err := time.ParseDuration(args[0])
				if err != nil || d <= 0 {
					return services.Errorf(services.Invalid, "%q is no duration", args[0]).WithRemedy("write like 30m, or off")
				}
				ms = float64(d) / float64(time.Millisecond)
			}
			return runScale(cmd.Context(), a, out, func(ctx context.Context, c *control.Client) (control.Scale, error) {
				return c.SetScale(ctx, control.ScaleRequest{IdleStopMS: &ms})
			})
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

func runScale(ctx context.Context, a *app, out output, do func(context.Context, *control.Client) (control.Scale, error)) error {
	if err := out.check(); err != nil {
		return err
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	sc, err := do(ctx, client)
	if err != nil {
		return err
	}
	if out.machine() {
		return out.print(a, sc)
	}
	return printScale(a.env.out(), sc)
}

func printScale(s render.Screen, sc control.Scale) error {
	var rows [][]string
	for _, x := range sc.Services {
		row := []string{x.Region, string(x.Role), fmt.Sprintf("%d", x.Instances)}
		if x.Measured {
			row = append(row, fmt.Sprintf("%.1f", x.Rate), fmt.Sprintf("%.2f", x.Concurrency), fmt.Sprintf("%.0f %%", 100*x.Utilisation))
		} else {
			row = append(row, "-", "-", "-")
		}
		rows = append(rows, append(row, policyText(x.Policy), x.Reason))
	}
	if err := s.Table([]string{"region", "service", "n", "rate", "under way", "used", "policy", "last decision"}, rows); err != nil {
		return err
	}
	if sc.IdleStopMS > 0 {
		s.Printf("the lab stops when it is idle for %s\n", time.Duration(sc.IdleStopMS)*time.Millisecond)
	}
	return nil
}

func policyText(p *autoscale.Policy) string {
	if p == nil {
		return "none"
	}
	parts := []string{fmt.Sprintf("%d to %d", p.Min, p.Max)}
	if p.Target > 0 {
		parts = append(parts, fmt.Sprintf("%s %g", p.Metric, p.Target))
	}
	if p.Predict > 0 {
		parts = append(parts, "ahead "+p.Predict.String())
	}
	for _, w := range p.Schedule {
		parts = append(parts, w.String())
	}
	if p.Paused {
		parts = append(parts, "paused")
	}
	return strings.Join(parts, ", ")
}
