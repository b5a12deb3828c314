package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

type squeezeOptions struct {
	req    control.SqueezeRequest
	until  string
	step   time.Duration
	drive  string
	member string
	asking int
	out    output
}

func newSqueezeCmd(a *app) *cobra.Command {
	var o squeezeOptions
	c := &cobra.Command{
		Use: "squeeze VIP --instance ID --until LIMIT", Short: "Shift traffic to one instance until it is saturated: its capacity", Args: cobra.ExactArgs(1),
		Long: `Shifts a growing share of a VIP's traffic onto one instance until its p99 or its
share of errors passes a limit, looks between the last two shares, and tells how
many requests per second the instance answers within the limits. The shares are
as before afterwards: at the end, on Ctrl-C, and by themselves within seconds
when the lab's daemon dies.

The traffic is what viewers ask for. Where there is none, --drive asks for a
path by itself, from this process, at the gateways of the instance's region.`,
		Example: `  flix gateway squeeze play --instance us-east/a/play/1 --until p99=50ms
  flix gateway squeeze signup --instance us-east/a/signup/1 \
    --until p99=20ms,errors=1% --drive /signup/plans`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			o.req.VIP, o.req.StepMS = args[0], float64(o.step.Microseconds())/1000
			if err := parseUntil(o.until, &o.req); err != nil {
				return err
			}
			for flag, v := range map[string]float64{"--growth": o.req.Growth, "--max-share": o.req.MaxShare} {
				if math.IsNaN(v) || math.IsInf(v, 0) { // JSON has neither
					return services.Errorf(services.Invalid, "%s: %g is no number to work with", flag, v).WithRemedy("leave it out, or see flix gateway squeeze --help")
				}
			}
			return runSqueeze(cmd.Context(), a, o)
		},
	}
	fl := c.Flags()
	fl.StringVar(&o.req.Instance, "instance", "", "the instance to squeeze")
	fl.StringVar(&o.until, "until", "", "when it is saturated: p99=DURATION, errors=PERCENT, or both")
	fl.DurationVar(&o.step, "step", 2*time.Second, "how long each share lasts")
	fl.Float64Var(&o.req.Growth, "growth", 1.4, "by how much the share grows from step to step")
	fl.Float64Var(&o.req.MaxShare, "max-share", 1, "the largest share, 0 to 1")
	fl.Int64Var(&o.req.MinRequests, "min-requests", 100, "requests that make a step count; it is prolonged up to five times to get them")
	fl.StringVar(&o.drive, "drive", "", "ask for this path while the test runs")
	fl.StringVar(&o.member, "drive-as", "squeeze", "member to ask as")
	fl.IntVar(&o.asking, "drive-with", 32, "clients that ask at once, at most 256")
	_ = c.MarkFlagRequired("instance") // the flags are there
	_ = c.MarkFlagRequired("until")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

// parseUntil reads "p99=50ms,errors=5%".
func parseUntil(text string, r *control.SqueezeRequest) error {
	for item := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(item), "=")
		bad := func(what string) error {
			return services.Errorf(services.Invalid, "--until: %q is not %s", item, what).WithRemedy("write it like --until p99=50ms, or --until p99=50ms,errors=5%%")
		}
		if !ok {
			return bad("a limit")
		}
		switch name {
		case "p99":
			d, err := time.ParseDuration(value)
			if err != nil || d <= 0 {
				return bad("a positive duration")
			}
			r.P99MS = float64(d.Microseconds()) / 1000
		case "errors", "error":
			n, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
			if err != nil || !(n > 0 && n <= 100) {
				return bad("a percentage")
			}
			r.ErrorRatio = n / 100
		default:
			return bad("a limit of p99 or errors")
		}
	}
	return nil
}

func runSqueeze(ctx context.Context, a *app, o squeezeOptions) error {
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	stop := func() {}
	if o.drive != "" {
		if stop, err = driveGateways(ctx, client, o); err != nil {
			return err
		}
	}
	msg := a.env.errOut()
	res, err := client.Squeeze(ctx, o.req, func(e control.Event) { msg.Printf("%s\n", e.Text) })
	stop()
	if o.out.machine() && res.VIP != "" {
		if perr := o.out.print(a, res); perr != nil {
			return perr
		}
		return err
	}
	if err != nil {
		if res.Verdict != "" {
			msg.Printf("%s\n", res.Verdict)
		}
		return err
	}
	return printSqueeze(a.env.out(), res)
}

func printSqueeze(s render.Screen, r control.SqueezeResult) error {
	var rows [][]string
	for _, st := range r.Steps {
		within := s.Good("within")
		if !st.Within {
			within = s.Warn("beyond")
		}
		rows = append(rows, []string{fmt.Sprintf("%.0f %%", st.Share*100), fmt.Sprintf("%.0f", st.RPS), render.MS(st.P50MS), render.MS(st.P99MS), fmt.Sprintf("%.1f %%", st.ErrorRatio*100), strconv.FormatInt(st.Requests, 10), within})
	}
	if err := s.Table([]string{"share", "requests/s", "p50", "p99", "errors", "requests", "limits"}, rows); err != nil {
		return err
	}
	s.Printf("%s\n", r.Verdict)
	return nil
}
