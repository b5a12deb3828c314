package main

import (
	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/services"
)

func newDoctorCmd(a *app) *cobra.Command {
	var (
		fix bool
		out output
	)
	c := &cobra.Command{
		Use: "doctor", Short: "Check what a lab needs, and what dead labs left", Args: cobra.NoArgs,
		Long: "Checks kernel limits, ports, memory, ffmpeg and Docker, each finding with its\nremedy. With --fix it ends and removes what a dead lab left.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			d, err := lab.Doctor(cmd.Context(), a.env.lab(), fix)
			if err != nil {
				return err
			}
			if out.machine() {
				if err := out.print(a, d); err != nil {
					return err
				}
			} else {
				printDiagnosis(a, d)
			}
			if d.Problems > 0 {
				return services.Errorf(services.Conflict, "%d problems were found", d.Problems).WithRemedy("each is named above with its remedy")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&fix, "fix", false, "end and remove what dead labs left")
	out.flag(c, "text", "json", "yaml")
	return c
}

func printDiagnosis(a *app, d lab.Diagnosis) {
	s := a.env.out()
	for _, f := range d.Findings {
		mark := s.Good("✓")
		switch {
		case f.Fixed:
			mark = s.Good("⚒")
			f.Text, f.Remedy = f.Text+": mended", ""
		case f.Level == "note":
			mark = s.Warn("·")
		case f.Level == "problem":
			mark = s.Bad("✗")
		}
		s.Printf("%s %-10s %s\n", mark, f.Check, f.Text)
		if f.Remedy != "" {
			s.Printf("  %s\n", s.Dim("→ "+f.Remedy))
		}
	}
}
