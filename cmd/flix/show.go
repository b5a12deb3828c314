package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
)

// show runs a verb that asks the lab one thing and prints it: for a program as
// it came, for a person by table.
func show[T any](a *app, out *output, ask func(context.Context, *control.Client) (T, error), table func(T) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
		if err != nil {
			return err
		}
		v, err := ask(cmd.Context(), client)
		if err != nil {
			return err
		}
		if out.machine() {
			return out.print(a, v)
		}
		return table(v)
	}
}

// Lists that the lab gives bare, and a program gets under a name.
type (
	jobs struct {
		Jobs []control.Job `json:"jobs"`
	}
	evacuations struct {
		Evacuations []control.Failover `json:"evacuations"`
	}
)
