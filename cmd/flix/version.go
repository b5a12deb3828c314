package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newVersionCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "version", Short: "Version of this build", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := out.check(); err != nil {
				return err
			}
			v := map[string]string{"version": version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			if out.machine() {
				return out.print(a, v)
			}
			a.env.out().Printf("flix %s (%s, %s)\n", v["version"], v["go"], v["platform"])
			return nil
		},
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

func newManCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the man pages to a folder", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := filepath.Clean(args[0])
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("man pages: %w", err)
			}
			// A fixed date keeps the pages the same from build to build.
			date := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			root := cmd.Root()
			root.DisableAutoGenTag = true
			if err := doc.GenManTree(root, &doc.GenManHeader{Title: "FLIX", Section: "1", Source: "flix", Manual: "flix manual", Date: &date}, dir); err != nil {
				return fmt.Errorf("man pages: %w", err)
			}
			a.env.out().Printf("man pages written to %s; read one: man %s\n", dir, filepath.Join(dir, "flix.1"))
			return nil
		},
	}
}

// warnOfBuild tells once that the lab's daemon is of another build: it may not know
// what this one asks for, and does what it did. Answers are as they were.
func (a *app) warnOfBuild() func(daemon string) {
	var once sync.Once
	return func(daemon string) {
		once.Do(func() {
			s := a.env.errOut()
			s.Printf("%s the daemon of lab %s is of another build, %s, and this flix is %s\n", s.Warn("!"), a.name, cmp.Or(daemon, "an older one"), version())
			s.Printf("  %s %s\n", s.Dim("→"), "flix lab down, then flix lab up, runs the lab by this one")
		})
	}
}
