package main

import (
	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
)

func newServeCacheCmd(a *app) *cobra.Command {
	var o lab.CacheOptions
	c := &cobra.Command{
		Use: "evcache", Short: "Run a cache server that memcached's clients speak to", Args: cobra.NoArgs,
		Long: `Runs one cache server of EVCache on its own, without a lab, until it is
interrupted. It speaks memcached's text, meta and binary protocols. What it
holds is in memory, bounded by --memory, and lost when it ends.`,
		Example: "  flix serve evcache --listen 127.0.0.1:11211\n  flix serve evcache --listen 127.0.0.1:0 --memory 256",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Ready = func(addr, admin string) {
				if admin != "" {
					admin = ", admin on " + admin
				}
				a.env.errOut().Printf("evcache listens on %s%s\n", addr, admin)
			}
			return lab.RunCache(cmd.Context(), a.env.lab(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:11211", "address of memcached's protocols; port 0 is any free one")
	f.StringVar(&o.Admin, "admin", "", "address of metrics; none if empty")
	f.Int64Var(&o.MemoryMiB, "memory", 64, "MiB that items may take with their keys")
	return c
}
