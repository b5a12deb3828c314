package main

import (
	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
)

func newServeCmd(a *app) *cobra.Command {
	var dir, control string
	c := &cobra.Command{
		Use: lab.ServeVerb + " NAME", Short: "Run a registry, gateway, cache or appliance alone", Args: cobra.ExactArgs(1),
		Long: `With a command it runs one part alone, without a lab.

With a NAME it runs the instances that a folder names, in the world it holds,
and answers the lab's daemon at the control address. The containers runtime
starts it so in every container of flix's own and puts the folder there; nobody
need run that by hand.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return lab.RunServe(cmd.Context(), a.env.lab(), args[0], dir, control)
		},
	}
	c.Flags().StringVar(&dir, "state", "/flix", "folder with world.json and specs.json")
	c.Flags().StringVar(&control, "control", "127.0.0.1:9099", "address to answer the daemon on")
	c.AddCommand(newServeRegistryCmd(a))
	c.AddCommand(newServeCacheCmd(a))
	c.AddCommand(newServeOCACmd(a))
	c.AddCommand(newServeGatewayCmd(a))
	return c
}
