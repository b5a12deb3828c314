package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
)

const gatewayHelp = `The gateways are the edge of a region: they take every request through a chain
of filters and send it where the routing table says. Both change while requests
are under way, and none is lost.

A new API goes on the air with its route, a canary with a share of the viewers,
and both go back with one word:

  flix gateway routes set rows --path /rows --vip discovery --member
  flix gateway routes set canary --path /play --percent 5 --vip play-canary
  flix gateway routes rollback

An overlay changes only where requests go that another route lets in. It sends a
member, or a device, to one instance:

  flix gateway routes set pin --members m-1 --instance us-east/a/play/2

The same viewers are in 5 % and in 10 %: the share is taken by member, else by
the header Device-Id, else by address. Two tests that share --salt take from the
same order of viewers, two that do not are independent.

  flix gateway routes set new-rows --path /discovery/rows --percent 10 \
    --when 'country in (US, CA) && device == tv' --vip discovery-b

How much one instance is good for:

  flix gateway squeeze play --instance us-east/a/play/1 --until p99=50ms`

func newGatewayCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "gateway", Short: "Routes and filters of the gateways; squeeze tests", Long: gatewayHelp,
	}
	c.AddCommand(newRoutesCmd(a), newFiltersCmd(a), newSqueezeCmd(a), newDebugCmd(a))
	return c
}

// group is a command that only has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	c.AddCommand(below...)
	return c
}

func newDebugCmd(a *app) *cobra.Command {
	var (
		r    control.DebugRequest
		last time.Duration
		out  output
	)
	c := &cobra.Command{
		Use: "debug", Short: "Sign a header that shows what becomes of a request", Args: cobra.NoArgs,
		Long: `Signs the value of the header X-Flix-Debug. An answer to a request with it tells
what became of the request: its passport, the attempts, the time in each filter,
the route and the status category. --instance and --vip send such a request to
one instance, or to another VIP; what its route asks of a client stays.`,
		Example: "  curl -si -H \"X-Flix-Debug: $(flix gateway debug)\" \\\n    http://127.0.0.1:PORT/signup/plans",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			r.ForMS = float64(last.Microseconds()) / 1000
			t, err := client.DebugToken(cmd.Context(), r)
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, t)
			}
			a.env.out().Printf("%s\n", t.Token)
			if a.env.OutTTY {
				msg := a.env.errOut()
				msg.Printf("%s\n", msg.Dim("send it as "+t.Header+" until "+t.Expires.Local().Format("15:04:05")+", for example to "+firstValue(t.Gateways)))
			}
			if t.MemberToken != "" {
				a.env.out().Printf("%s\n", t.MemberToken)
			}
			return nil
		},
	}
	c.Flags().StringVar(&r.Instance, "instance", "", "send requests with the header to this instance")
	c.Flags().StringVar(&r.VIP, "vip", "", "send requests with the header to this VIP")
	c.Flags().StringVar(&r.Member, "member", "", "sign a member token too, on a line of its own")
	c.Flags().DurationVar(&last, "for", 10*time.Minute, "how long it is good, at most 24h")
	out.flag(c, "text", "json", "yaml")
	return c
}

// firstValue is the value of the least key.
func firstValue(m map[string]string) string {
	least := ""
	for k := range m {
		if least == "" || k < least {
			least = k
		}
	}
	return m[least]
}

// pairs reads NAME=VALUE arguments.
func pairs(args []string, sep string) (map[string]string, error) {
	out := map[string]string{}
	for _, arg := range args {
		k, v, ok := strings.Cut(arg, sep)
		if k = strings.TrimSpace(k); !ok || k == "" {
			return nil, usageError{fmt.Errorf("%q is not NAME%sVALUE", arg, sep)}
		}
		out[k] = strings.TrimSpace(v)
	}
	return out, nil
}
