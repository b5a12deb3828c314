package main

import (
	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func newDownCmd(a *app) *cobra.Command {
	var (
		all, keep bool
		out       output
	)
	c := &cobra.Command{
		Use: "down", Short: "Take a lab down; nothing is left behind", Args: cobra.NoArgs,
		Long: `Ends every process of the lab and removes every file, socket and port it had.
With --keep-data the stores' and appliances' data stay for the next up.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			names := []string{a.name}
			if all {
				if cmd.Flags().Changed("name") || cmd.Flags().Changed("lab") {
					return services.Errorf(services.Invalid, "--all: takes every lab down, and --name means one").WithRemedy("leave one of the two out")
				}
				var err error
				if names, err = lab.Names(a.env.lab()); err != nil {
					return err
				}
			}
			results := []control.DownResult{}
			for _, n := range names {
				r, err := lab.Down(cmd.Context(), a.env.lab(), n, keep)
				if err != nil {
					return err
				}
				results = append(results, r)
			}
			if out.machine() {
				if all {
					return out.print(a, results)
				}
				return out.print(a, results[0])
			}
			s := a.env.out()
			if len(results) == 0 {
				s.Printf("there is no lab to take down\n")
			}
			for _, r := range results {
				s.Printf("lab %s is down: %d processes ended in %s", r.Name, r.Processes, render.MS(r.MS))
				if r.Kept != "" {
					s.Printf("; its data stay in %s", r.Kept)
				}
				s.Printf("\n")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "take every lab of this user down")
	c.Flags().BoolVar(&keep, "keep-data", false, "keep the data of stores and appliances for the next up")
	out.flag(c, "text", "json", "yaml")
	return c
}
