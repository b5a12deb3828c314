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

const commandHelp = `Every call of an API or a microservice to something it depends on goes through a
command: a timeout, a bulkhead, a circuit breaker and, where there is a second
answer, a fallback. Each instance has its own; a property set here holds in
every instance of the roles that have the command, those to come too.

Properties, by their names in Hystrix or the short ones:
  execution.isolation.thread.timeoutInMilliseconds     timeout
  execution.timeout.enabled                            timeout_enabled
  execution.isolation.semaphore.maxConcurrentRequests  max_concurrent
  fallback.isolation.semaphore.maxConcurrentRequests   max_fallbacks
  fallback.enabled                                     fallback
  circuitBreaker.enabled                               breaker
  circuitBreaker.requestVolumeThreshold                volume
  circuitBreaker.errorThresholdPercentage              error_percent
  circuitBreaker.sleepWindowInMilliseconds             sleep
  circuitBreaker.halfOpenProbes                        probes
  circuitBreaker.forceOpen, circuitBreaker.forceClosed force_open, force_closed
  requestCache.enabled                                 request_cache
  retry.maxRetries                                     retries
  hedge.enabled, hedge.delayInMilliseconds             hedge, hedge_delay
  limit.algorithm (none, vegas, gradient2, aimd)       limit
  limit.initial, limit.min, limit.max                  limit_initial, …
Times are milliseconds or durations; PROPERTY= takes one back. The name
"default" sets a property for every command that has none of its own.

The admin port of each instance streams the same to Hystrix's dashboard and
Turbine: http://HOST:ADMIN/hystrix.stream (flix lab ports).`

func newCommandCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "command", Short: "Resilience commands: breakers, bulkheads, limits, fallbacks", Long: commandHelp,
		Example: "  flix command ls --role play\n  flix command set GetLicense timeout=200ms\n  flix command open RankAppliances",
	}
	c.AddCommand(newCommandLsCmd(a), newCommandSetCmd(a),
		newCommandForceCmd(a, "open", "Hold the breaker open: nothing is called, fallbacks answer", map[string]string{"circuitBreaker.forceOpen": "true", "circuitBreaker.forceClosed": ""}),
		newCommandForceCmd(a, "close", "Hold the breaker closed, whatever fails", map[string]string{"circuitBreaker.forceOpen": "", "circuitBreaker.forceClosed": "true"}),
		newCommandForceCmd(a, "auto", "Let the breaker open and close by itself again", map[string]string{"circuitBreaker.forceOpen": "", "circuitBreaker.forceClosed": ""}))
	return c
}

// commandFlags pick commands.
func commandFlags(c *cobra.Command, q *control.CommandQuery, out *output) {
	c.Flags().StringVar(&q.Region, "region", "", "only in this region")
	c.Flags().StringVar(&q.Role, "role", "", "only of this role")
	out.flag(c, "text", "wide", "json", "yaml")
}

func newCommandLsCmd(a *app) *cobra.Command {
	var (
		q   control.CommandQuery
		out output
	)
	c := &cobra.Command{
		Use: "ls [NAME]", Short: "List commands with their breakers, rates and times", Args: cobra.MaximumNArgs(1),
		Long: "Lists the commands of each role, all its instances together; -o wide lists every\ninstance, -o json everything there is to know.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				q.Name = args[0]
			}
			return runCommand(cmd.Context(), a, out, func(ctx context.Context, c *control.Client) (control.Commands, error) { return c.Commands(ctx, q) })
		},
	}
	commandFlags(c, &q, &out)
	c.Flags().StringVar(&q.Instance, "instance", "", "only of this instance")
	return c
}

func newCommandSetCmd(a *app) *cobra.Command {
	var (
		q   control.CommandQuery
		out output
	)
	c := &cobra.Command{
		Use: "set NAME PROPERTY=VALUE…", Short: "Set properties of a command at run time", Args: cobra.MinimumNArgs(2), Long: commandHelp,
		Example: "  flix command set GetLicense timeout=200ms max_concurrent=20\n  flix command set default limit=gradient2 --role play\n  flix command set GetLicense timeout=",
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			r := control.CommandRequest{CommandQuery: q, Properties: map[string]string{}}
			for _, arg := range args[1:] {
				name, value, ok := strings.Cut(arg, "=")
				if !ok || name == "" {
					return services.Errorf(services.Invalid, "%q is not PROPERTY=VALUE", arg).WithRemedy("flix command set --help lists the properties")
				}
				r.Properties[name] = value
			}
			return runCommand(cmd.Context(), a, out, func(ctx context.Context, c *control.Client) (control.Commands, error) { return c.SetCommand(ctx, r) })
		},
	}
	commandFlags(c, &q, &out)
	return c
}

func newCommandForceCmd(a *app, verb, short string, props map[string]string) *cobra.Command {
	var (
		q   control.CommandQuery
		out output
	)
	c := &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			r := control.CommandRequest{CommandQuery: q, Properties: props}
			return runCommand(cmd.Context(), a, out, func(ctx context.Context, c *control.Client) (control.Commands, error) { return c.SetCommand(ctx, r) })
		},
	}
	commandFlags(c, &q, &out)
	return c
}

func runCommand(ctx context.Context, a *app, out output, ask func(context.Context, *control.Client) (control.Commands, error)) error {
	if err := out.check(); err != nil {
		return err
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	cs, err := ask(ctx, client)
	if err != nil {
		return err
	}
	if out.machine() {
		return out.print(a, cs)
	}
	return printCommands(a.env.out(), cs, out.format == "wide")
}

func printCommands(s render.Screen, cs control.Commands, wide bool) error {
	shown, first := cs.Commands, "instance"
	if !wide {
		shown, first = cs.ByRole(), "role"
	}
	rows := make([][]string, 0, len(shown))
	for _, c := range shown {
		who := c.Role
		if wide {
			who = c.Instance
		}
		rows = append(rows, []string{who, c.Name, c.Group, breakerText(s, c), fmt.Sprintf("%.1f", c.Rate), fmt.Sprintf("%.0f %%", c.ErrorPercent),
			callTime(c, c.P50MS), callTime(c, c.P99MS), running(c), fmt.Sprint(c.Window["fallback_success"])})
	}
	if err := s.Table([]string{first, "command", "calls", "breaker", "rate/s", "errors", "p50", "p99", "running", "fallbacks"}, rows); err != nil {
		return err
	}
	if len(cs.Silent) > 0 {
		s.Printf("%s %s\n", s.Bad("no answer:"), strings.Join(cs.Silent, ", "))
	}
	return nil
}

// callTime is "-" where nothing was called.
func callTime(c control.Command, ms float64) string {
	if c.MaxMS == 0 {
		return "-"
	}
	return render.MS(ms)
}

// running is "3/256", with the adaptive limit in place of the bulkhead where
// there is one.
func running(c control.Command) string {
	if c.Limit > 0 {
		return fmt.Sprintf("%d/%d adaptive", c.InFlight, min(c.Limit, c.MaxConcurrent))
	}
	return fmt.Sprintf("%d/%d", c.InFlight, c.MaxConcurrent)
}

func breakerText(s render.Screen, c control.Command) string {
	text := strings.ReplaceAll(c.Breaker, "_", " ")
	if c.Forced != "" {
		text = "held " + c.Forced
	}
	if c.Breaker == "closed" && c.Forced == "" {
		return s.Good(text)
	}
	return s.Bad(text)
}
