package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/services"
)

func newImagesCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "images", Short: "The containers runtime's images: list, pull, build, save, load",
		Long: `The containers runtime runs Cassandra, Kafka, memcached, MariaDB, OpenSearch and
an S3 server from images: official ones, at fixed versions, or ones that flix
makes from Debian and Maven packages where no registry can be reached. Both
behave the same to a lab.

An image is chosen so: FLIX_IMAGE_<COMPONENT> if it is set (e.g.
FLIX_IMAGE_CASSANDRA); else the official one if it is on this machine's Docker
engine; else the one built here; else the official one is pulled, from
FLIX_IMAGE_PREFIX if that is set.`,
		Example: `  flix images ls
  flix images pull
  sudo flix images build --only cassandra,kafka
  flix images save images.tar
  flix images load images.tar --sha256 SUM`,
	}
	c.AddCommand(newImagesListCmd(a), newImagesPullCmd(a), newImagesBuildCmd(a), newImagesSaveCmd(a), newImagesLoadCmd(a), newImagesVerifyCmd(a))
	return c
}

// withImages runs f on the images of this machine's engine.
func withImages(ctx context.Context, a *app, f func(*lab.Images) error) error {
	i, err := lab.OpenImages(ctx, a.env.lab())
	if err != nil {
		return err
	}
	defer i.Close()
	return f(i)
}

// components are the arguments of a verb that takes names of components.
func components(c *cobra.Command) *cobra.Command {
	c.Use += " [COMPONENT…]"
	c.Args = cobra.ArbitraryArgs
	c.ValidArgs = lab.ImageComponents()
	return c
}

func newImagesListCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "ls", Short: "List the image of every component", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return withImages(cmd.Context(), a, func(i *lab.Images) error {
				rows, err := i.List(cmd.Context())
				if err != nil {
					return err
				}
				if out.machine() {
					return out.print(a, rows)
				}
				return printImages(a, rows)
			})
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

func printImages(a *app, rows []lab.ImageRow) error {
	s := a.env.out()
	var lines [][]string
	for _, r := range rows {
		id, size, present := s.Dim("-"), s.Dim("-"), s.State("missing")
		if r.Present {
			id, size, present = shortID(r.ID), render.Bytes(r.SizeBytes), s.Good("present")
		}
		component := string(r.Component)
		if component == "" {
			component = s.Dim("(base)")
		}
		lines = append(lines, []string{component, r.Reference, string(r.Source), id, size, present})
	}
	return s.Table([]string{"component", "image", "source", "id", "size", "here"}, lines)
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

func newImagesPullCmd(a *app) *cobra.Command {
	return components(&cobra.Command{
		Use: "pull", Short: "Pull the official images",
		Long: "Pulls the official image of every component named, or of all, at its fixed\nversion, even where one that was built here would do.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withImages(cmd.Context(), a, func(i *lab.Images) error {
				view := render.NewSteps(a.env.errOut())
				defer view.Close()
				var name, ref string
				var begin time.Time
				done := func() {
					if name != "" {
						view.Done(name, ref, ms(time.Since(begin)))
					}
				}
				err := i.Pull(cmd.Context(), args, func(component, reference string) {
					done()
					name, ref, begin = component, reference, time.Now()
					view.Begin("pull " + reference)
				})
				if err == nil {
					done()
				}
				return err
			})
		},
	})
}

func newImagesBuildCmd(a *app) *cobra.Command {
	var (
		only  []string
		force bool
		out   output
	)
	c := &cobra.Command{
		Use: "build", Short: "Make the images from Debian and Maven packages", Args: cobra.NoArgs,
		Long: `Makes the images, tagged flix/…, out of packages of Debian, Maven Central and
the Go module proxy: for machines that reach those and no image registry. What
has not changed since the last build is left alone.

It runs debootstrap, which needs root, mvn and go. It takes some minutes, and
some 3 GB of disk.`,
		Example: "  sudo flix images build\n  sudo flix images build --only cassandra,kafka",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return withImages(cmd.Context(), a, func(i *lab.Images) error { return runImagesBuild(cmd.Context(), a, i, only, force, out) })
		},
	}
	c.Flags().StringSliceVar(&only, "only", nil, "components to build: "+strings.Join(lab.ImageComponents(), ", "))
	c.Flags().BoolVar(&force, "force", false, "build what has not changed, too, and the bases")
	_ = c.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(lab.ImageComponents(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	out.flag(c, "text", "json", "yaml")
	return c
}

func runImagesBuild(ctx context.Context, a *app, i *lab.Images, only []string, force bool, out output) error {
	view := render.NewSteps(a.env.errOut())
	begin := time.Now()
	made, err := i.Build(ctx, only, force, func(s lab.ImageStep) {
		if s.Done {
			view.Done(s.Name, s.Text, ms(s.Took))
		} else {
			view.Begin(s.Name + ": " + s.Text)
		}
	})
	view.Close()
	if err != nil {
		return err
	}
	if out.machine() {
		return out.print(a, made)
	}
	s, changed := a.env.out(), 0
	for _, m := range made {
		if m.Changed {
			changed++
		}
	}
	if changed == 0 {
		s.Printf("all %d images are up to date\n", len(made))
		return nil
	}
	s.Printf("%d images made, %d up to date, in %s\n", changed, len(made)-changed, render.MS(ms(time.Since(begin))))
	return nil
}

func newImagesSaveCmd(a *app) *cobra.Command {
	var out output
	c := components(&cobra.Command{
		Use: "save FILE", Short: "Write the images into one file, for another machine",
		Long:    "Writes the images of the components named, or of all, into one archive, with the\nhash of what it holds. On the other machine: flix images load FILE.",
		Example: "  flix images save images.tar\n  flix images save kafka.tar kafka",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return withImages(cmd.Context(), a, func(i *lab.Images) error {
				saved, err := i.Save(cmd.Context(), args[1:], args[0])
				if err != nil {
					return err
				}
				if out.machine() {
					return out.print(a, saved)
				}
				s := a.env.out()
				s.Printf("%d images, %s, in %s\n", len(saved.Images), render.Bytes(saved.SizeBytes), saved.File)
				s.Printf("%s\n", s.Dim(fmt.Sprintf("load it elsewhere: flix images load %s --sha256 %s", saved.File, saved.SHA256)))
				return nil
			})
		},
	})
	c.Args = cobra.MinimumNArgs(1)
	out.flag(c, "text", "json", "yaml")
	return c
}

func newImagesLoadCmd(a *app) *cobra.Command {
	var (
		sum string
		out output
	)
	c := &cobra.Command{
		Use: "load FILE", Short: "Load images from a file that flix images save wrote", Args: cobra.ExactArgs(1),
		Long: "Checks a file that flix images save wrote, in full, and loads its images.\nNothing is loaded under a name that is not one of the set's.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return withImages(cmd.Context(), a, func(i *lab.Images) error {
				loaded, err := i.Load(cmd.Context(), args[0], sum)
				if err != nil {
					return err
				}
				if out.machine() {
					return out.print(a, loaded)
				}
				s := a.env.out()
				for _, img := range loaded.Images {
					s.Printf("%s %-10s %s  %s\n", s.Good("✓"), img.Component, img.Reference, s.Dim(shortID(img.ID)))
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&sum, "sha256", "", "SHA-256 the file must have, in hexadecimal, as flix images save prints it")
	out.flag(c, "text", "json", "yaml")
	return c
}

func newImagesVerifyCmd(a *app) *cobra.Command {
	var (
		start bool
		out   output
	)
	c := components(&cobra.Command{
		Use: "verify", Short: "Check that the images are here, of the right version, and start",
		Long: "Checks the images of the components named, or of all: whether they are here,\nmade for this machine, and of the version the lab is made for. With --start it\nalso runs a container of each until it answers on its port, and removes it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return withImages(cmd.Context(), a, func(i *lab.Images) error { return runImagesVerify(cmd.Context(), a, i, args, start, out) })
		},
	})
	c.Flags().BoolVar(&start, "start", false, "start a container of each, one after another")
	out.flag(c, "text", "json", "yaml")
	return c
}

func runImagesVerify(ctx context.Context, a *app, i *lab.Images, args []string, start bool, out output) error {
	view := render.NewSteps(a.env.errOut())
	verdicts, err := i.Verify(ctx, args, start, func(component string) { view.Begin("start " + component) })
	view.Close()
	if err != nil {
		return err
	}
	problems := 0
	for _, v := range verdicts {
		if v.Problem != "" {
			problems++
		}
	}
	if out.machine() {
		if err := out.print(a, verdicts); err != nil {
			return err
		}
	} else {
		printVerdicts(a, verdicts)
	}
	if problems > 0 {
		return services.Errorf(services.Conflict, "%d of %d images are missing or wrong", problems, len(verdicts)).WithReason("bad_images").WithRemedy("each is named above with its remedy")
	}
	return nil
}

func printVerdicts(a *app, verdicts []lab.ImageVerdict) {
	s := a.env.out()
	for _, v := range verdicts {
		if v.Problem != "" {
			s.Printf("%s %-10s %s: %s\n  %s\n", s.Bad("✗"), v.Component, v.Reference, v.Problem, s.Dim("→ "+v.Remedy))
			continue
		}
		text := v.Reference
		if v.Got != "" {
			text += ", version " + v.Got
		}
		if v.StartMS > 0 {
			text += ", answers after " + render.MS(v.StartMS)
		}
		s.Printf("%s %-10s %s  %s\n", s.Good("✓"), v.Component, text, s.Dim(shortID(v.ID)))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
