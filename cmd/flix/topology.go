package main

import (
	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

func newTopologyCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "topology", Short: "Print or check what a lab is made of"}
	var (
		regions int
		file    string
		out     output
	)
	show := &cobra.Command{
		Use: "show [FILE]", Short: "Print the compiled form of a preset or a file", Args: cobra.MaximumNArgs(1),
		Long: "Prints the compiled form as YAML, which --topology reads, or as JSON with every\ninstance that it declares.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if len(args) == 1 {
				file = args[0]
			}
			t, err := upOptions{regions: regions, file: file}.topology(cmd)
			if err != nil {
				return err
			}
			if out.format == "json" {
				return out.print(a, struct {
					topology.Topology
					Instances []topology.Instance `json:"instances"`
				}{t, t.Instances()})
			}
			b, err := t.YAML()
			if err != nil {
				return err
			}
			_, err = a.env.Out.Write(b)
			return err
		},
	}
	show.Flags().IntVar(&regions, "regions", 3, "number of preset regions, 1 to 6")
	show.Flags().StringVar(&file, "topology", "", "YAML file that declares the planet")
	out.flag(show, "yaml", "json")
	validate := &cobra.Command{
		Use: "validate FILE", Short: "Check a topology file", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := file
			if len(args) == 1 {
				f = args[0]
			}
			if f == "" {
				return services.Errorf(services.Invalid, "validate: which file?").WithRemedy("flix lab topology validate planet.yaml")
			}
			t, err := readTopology(cmd, f)
			if err != nil {
				return err
			}
			a.env.out().Printf("%s is valid: %s, %s\n", f, services.Count(len(t.Regions), "region"), services.Count(len(t.Instances()), "instance"))
			return nil
		},
	}
	validate.Flags().StringVar(&file, "topology", "", "YAML file that declares the planet")
	c.AddCommand(show, validate)
	return c
}
