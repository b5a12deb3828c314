package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
)

func newSnapshotCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "snapshot", Short: "Save the whole state of a lab, and make it a lab again",
		Long: `A snapshot holds what a lab's stores and appliances keep, the lab's key,
certificates and ports, and what is wanted of it. It lies below the state folder
and is as secret as the lab.`,
		Example: "  flix lab snapshot save before-test\n  flix lab snapshot restore before-test --force",
	}
	c.AddCommand(newSnapshotSaveCmd(a), newSnapshotRestoreCmd(a), newSnapshotListCmd(a), newSnapshotRemoveCmd(a))
	return c
}

func newSnapshotSaveCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "save NAME", Short: "Stop the lab, copy its state, start it again", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			view := render.NewSteps(a.env.errOut())
			res, err := client.SaveSnapshot(cmd.Context(), control.SnapshotRequest{Name: args[0]}, showSteps(view, "snapshot"))
			view.Close()
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, res)
			}
			s := a.env.out()
			s.Printf("snapshot %s of lab %s: %d parts, %s\n", s.Bold(res.Name), res.Lab, res.Parts, render.Bytes(res.Bytes))
			if res.OutageMS > 0 {
				s.Printf("viewers were without the lab for %s\n", render.MS(res.OutageMS))
			} else {
				s.Printf("the lab was stopped and stays so; start it: flix lab start\n")
			}
			return nil
		},
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

func newSnapshotRestoreCmd(a *app) *cobra.Command {
	var (
		o   lab.RestoreOptions
		out output
	)
	c := &cobra.Command{
		Use: "restore NAME", Short: "Make the lab of a snapshot again and bring it up", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			o.Name = args[0]
			if cmd.Flags().Changed("name") || cmd.Flags().Changed("lab") {
				o.Lab = a.name
			}
			view := render.NewSteps(a.env.errOut())
			restore, up := showSteps(view, "restore"), showSteps(view, "up")
			res, err := lab.Restore(cmd.Context(), a.env.lab(), o, func(e control.Event) {
				if strings.HasPrefix(e.Kind, "restore.") {
					restore(e)
				} else {
					up(e)
				}
			})
			view.Close()
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, res)
			}
			printUp(a, res)
			return nil
		},
	}
	c.Flags().BoolVar(&o.Force, "force", false, "take a lab of that name down first; its state is lost")
	out.flag(c, "text", "json", "yaml")
	return c
}

func newSnapshotListCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "ls", Short: "List the snapshots of this user", Args: cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			list, err := lab.Snapshots(a.env.lab())
			if perr := printSnapshots(a, out, list); perr != nil {
				return perr
			}
			return err // the ones that can be read are shown all the same
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

func printSnapshots(a *app, out output, list []control.Snapshot) error {
	if out.machine() {
		if list == nil {
			list = []control.Snapshot{}
		}
		return out.print(a, map[string]any{"snapshots": list})
	}
	s := a.env.out()
	if len(list) == 0 {
		s.Printf("there is no snapshot; save one: flix lab snapshot save NAME\n")
		return nil
	}
	var rows [][]string
	for _, x := range list {
		rows = append(rows, []string{x.Name, x.Lab, x.Runtime, x.Created.Local().Format(time.DateTime), strings.Join(x.Regions, " "), fmt.Sprint(x.Parts), render.Bytes(x.Bytes)})
	}
	return s.Table([]string{"snapshot", "lab", "runtime", "saved", "regions", "parts", "size"}, rows)
}

func newSnapshotRemoveCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a snapshot", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := lab.RemoveSnapshot(a.env.lab(), args[0]); err != nil {
				return err
			}
			a.env.out().Printf("snapshot %s is removed\n", args[0])
			return nil
		},
	}
}

// newVolumeCmd is what a snapshot of containers runs beside a volume.
func newVolumeCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: lab.VolumeVerb, Short: "Pack or unpack a directory", Hidden: true}
	var (
		entries int
		bytes   int64
	)
	unpack := &cobra.Command{
		Use: "unpack DIR", Short: "Make a directory of an archive", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return lab.UnpackDir(args[0], a.env.In, entries, bytes)
		},
	}
	unpack.Flags().IntVar(&entries, "entries", 0, "how many files it may hold")
	unpack.Flags().Int64Var(&bytes, "bytes", 0, "how many bytes it may hold")
	c.AddCommand(unpack, &cobra.Command{
		Use: "pack DIR", Short: "Write a directory as an archive", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return lab.PackDir(args[0], a.env.Out) },
	})
	return c
}
