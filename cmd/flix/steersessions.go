package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
)

func newSteerSessionsCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "sessions", Short: "The appliances' BGP sessions with their sites' routers", Args: cobra.NoArgs,
		Long: `Lists, of a lab whose topology says bgp: true, each appliance's session: the
router's AS number and address, where the router may connect, and how many
routes are learned. When a session is down its routes are kept, as stale, for as
long as a report is fresh (timing.report_expiry), then withdrawn; the appliance
is not healthy after that. One that the router's operator shuts down or removes,
and one over which more than 100,000 prefixes come, has its routes withdrawn at
once.

A site may name a router of its own, any BGP speaker such as bird:

  isps: [{name: isp-1, router: {address: "127.0.0.1:1179", asn: 65010}}]

Its neighbours are of AS 64511. A router knows them by their addresses: on IPv4
loopback a site's appliances connect from 127.0.0.1, 127.0.0.2 and so on, or
from the addresses that router.from begins; bird takes them all by neighbor
range 127.0.0.0/8 with dynamic name, or has a protocol for each. Without an
address the router connects to the appliances. Where no router is named the lab
runs one, of the ISP's AS number or of 64510 at an exchange; it announces the
site's prefixes, and what flix steer routes loads for the site. Networks on the
way are those of the AS path after the router's. On the embedded runtime only.

JSON: sessions[] {appliance, site, router_asn, listen, established, since,
whole, neighbour, routes, stale, sessions, error}.`,
		Example: "  flix steer sessions\n  flix steer sessions -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			s, err := client.SteerSessions(cmd.Context())
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, s)
			}
			return printSessions(a, s)
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

func printSessions(a *app, list control.BGPSessions) error {
	s := a.env.out()
	var rows [][]string
	for _, x := range list.Sessions {
		state, routes := s.Bad("down"), fmt.Sprint(x.Routes)
		if x.Established {
			state = s.Good("up")
		}
		if !x.Since.IsZero() {
			state += " " + time.Since(x.Since).Round(time.Second).String()
		}
		if x.Stale > 0 {
			routes += fmt.Sprintf(" (%d stale)", x.Stale)
		}
		rows = append(rows, []string{x.Appliance, x.Listen, fmt.Sprint(x.RouterASN), x.Neighbour, state, routes, x.Error})
	}
	return s.Table([]string{"appliance", "listens", "router as", "router", "session", "routes", "why down"}, rows)
}
