package main

import (
	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
)

func newServeRegistryCmd(a *app) *cobra.Command {
	var o lab.RegistryOptions
	c := &cobra.Command{
		Use: "registry", Short: "Run a service registry that Eureka's clients and servers speak to", Args: cobra.NoArgs,
		Long: `Runs a service registry on its own, without a lab, until it is interrupted. Its
API is Eureka's REST API, complete, in JSON and XML, under /eureka/v2, /eureka
or any other context. Peers of the region are told what happens, in batches, and
may be the original's servers; other regions' registries are read when a client
asks for ?regions=NAME.

FLIX_ADMIN_KEY is the bearer key of the admin paths (--admin): GET
/registry/leases, GET /registry/why?id=ID, POST /registry/evict. Metrics are for
everybody.`,
		Example: `  flix serve registry --listen 127.0.0.1:8761
  flix serve registry --listen 127.0.0.1:8762 \
    --peer http://127.0.0.1:8761/eureka/v2
  flix serve registry --listen 127.0.0.1:8763 \
    --region eu-west --remote-region us-east=http://127.0.0.1:8761`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Ready = func(addr, admin string) {
				if admin != "" {
					admin = ", admin on " + admin
				}
				a.env.errOut().Printf("registry of %s listens on http://%s/eureka/v2%s\n", o.Region, addr, admin)
			}
			return lab.RunRegistry(cmd.Context(), a.env.lab(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8761", "address of the REST API; port 0 is any free one")
	f.StringVar(&o.Admin, "admin", "", "address of metrics and admin paths; none if empty")
	f.StringVar(&o.Region, "region", "default", "name of the region it serves")
	f.StringArrayVar(&o.Peers, "peer", nil, "URL of another registry of the region; may be repeated, and may name this one too")
	f.StringArrayVar(&o.Remotes, "remote-region", nil, "NAME=URL of another region's registry, for ?regions=NAME; may be repeated")
	f.StringVar(&o.Timing, "timing", "production", "intervals: production (Eureka's own) or lab (seconds)")
	f.DurationVar(&o.LeaseRenewal, "lease-renewal", 0, "interval of renewals that an instance is taken to have when it names none; 0 is the timing's")
	f.DurationVar(&o.LeaseDuration, "lease-duration", 0, "life of a lease whose instance asks for none; 0 is the timing's")
	f.DurationVar(&o.EvictionInterval, "eviction-interval", 0, "how often expired leases are looked for; 0 is the timing's")
	f.DurationVar(&o.RegistryFetch, "fetch-interval", 0, "how old a copy of another region may grow; 0 is the timing's")
	f.DurationVar(&o.Retain, "delta-retention", 0, "how long a change stays in the delta; 0 is Eureka's 3m")
	f.StringVar(&o.SelfPreservation, "self-preservation", "auto", "keep leases when too many run out at once: on, off, or auto (from 100 leases)")
	f.DurationVar(&o.EmptyWait, "empty-wait", 0, "refuse fetches (403) for so long after a start that found nothing at the peers; Eureka's own is 5m")
	f.Float64Var(&o.FetchRate, "fetch-rate", 0, "most fetches a second (503 above); 0 is no limit")
	f.Float64Var(&o.FullFetchRate, "full-fetch-rate", 0, "most full fetches a second; 0 is no limit")
	f.IntVar(&o.FetchBurst, "fetch-burst", 10, "fetches at once before a limit takes hold")
	f.BoolVar(&o.LimitEverybody, "limit-everybody", false, "limit Eureka's own clients and servers too, which are let through otherwise")
	return c
}
