package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
)

// The daemon and the hosts of a lab are this executable under hidden verbs.

func newDaemonCmd(a *app) *cobra.Command {
	var dir string
	c := &cobra.Command{Use: lab.DaemonVerb, Hidden: true, Args: cobra.NoArgs, Short: "Run a lab's daemon", RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := lab.PathsOf(a.env.lab(), filepath.Base(dir))
		if err != nil {
			return err
		}
		return lab.RunDaemon(cmd.Context(), a.env.lab(), p)
	}}
	c.Flags().StringVar(&dir, "lab-dir", "", "folder of the lab")
	_ = c.MarkFlagRequired("lab-dir") // the flag is there
	return c
}

func newHostCmd(a *app) *cobra.Command {
	var dir, host, socket string
	c := &cobra.Command{Use: lab.HostVerb, Hidden: true, Args: cobra.NoArgs, Short: "Run a host of the embedded runtime", RunE: func(cmd *cobra.Command, _ []string) error {
		return lab.RunHost(cmd.Context(), a.env.lab(), dir, host, socket)
	}}
	c.Flags().StringVar(&dir, "lab-dir", "", "folder of the lab")
	c.Flags().StringVar(&host, "host", "", "region, or oc")
	c.Flags().StringVar(&socket, "socket", "", "unix socket to answer on")
	return c
}
