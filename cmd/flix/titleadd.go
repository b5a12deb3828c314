package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

type titleAddOptions struct {
	req       control.AddTitleRequest
	available string
	out       output
}

func newTitleAddCmd(a *app) *cobra.Command {
	var o titleAddOptions
	c := &cobra.Command{
		Use: "add FILE", Short: "Transcode a video, fill it to the appliances, publish it", Args: cobra.ExactArgs(1),
		Long: `Transcodes FILE, fills it to the appliances and plays it. With --available it is
filled at once and played by nobody before that date; with --min-sites not
before so many sites hold all of it. "flix title ls" and "flix fill status" say
what a title waits for. Added again after it was cut short, it keeps the date it
was given first.`,
		Example: "  flix title add holiday.mp4 --name \"My Holiday\" --countries US,GB\n" +
			"  flix title add premiere.mkv --name Premiere --available 2030-12-24T18:00:00Z",
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, a, args[0]) },
	}
	// It hides the lab's --name here; --lab names the lab everywhere.
	c.Flags().StringVar(&o.req.Name, "name", "", "name of the title (the lab is named by --lab here)")
	_ = c.MarkFlagRequired("name") // the flag is there
	c.Flags().StringVar(&o.req.ID, "id", "", "id of the title; made from its name if empty")
	c.Flags().StringVar(&o.req.Synopsis, "synopsis", "", "what it is about")
	c.Flags().StringSliceVar(&o.req.Countries, "countries", nil, "countries it is licensed in; everywhere if empty")
	c.Flags().StringVar(&o.available, "available", "", "nobody plays it before this: a date, RFC 3339, or a duration from now")
	c.Flags().IntVar(&o.req.MinSites, "min-sites", 0, "nobody plays it before this many sites hold all of it; 0: one appliance will do")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

func (o *titleAddOptions) run(cmd *cobra.Command, a *app, file string) error {
	if err := o.out.check(); err != nil {
		return err
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return fmt.Errorf("title add: %w", err)
	}
	o.req.File = file
	if o.req.Available, err = releaseDate(o.available, time.Now()); err != nil {
		return err
	}
	if err := lab.CheckOriginal(a.env.lab(), o.req); err != nil {
		return err
	}
	client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
	if err != nil {
		return err
	}
	view := render.NewSteps(a.env.errOut())
	res, err := client.AddTitle(cmd.Context(), o.req, showSteps(view, "title"))
	view.Close()
	if err != nil {
		return err
	}
	if o.out.machine() {
		return o.out.print(a, res)
	}
	s := a.env.out()
	if !res.Title.Live {
		s.Printf("%s (%s) is on %d appliances after %s, and not live: %s\n", s.Bold(res.Title.Name), res.Title.ID, res.Appliances, render.MS(res.MS), res.Title.Waiting)
		return nil
	}
	s.Printf("%s (%s) is live on %d appliances after %s\n", s.Bold(res.Title.Name), res.Title.ID, res.Appliances, render.MS(res.MS))
	s.Printf("%s\n", s.Dim(fmt.Sprintf("watch it: flix play --title %q", res.Title.Name)))
	return nil
}

// releaseDate reads --available: a moment (RFC 3339), a day, which begins at
// midnight UTC, or a duration from now; zero for "". A date that has passed is
// one that has come.
func releaseDate(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(d).UTC().Truncate(time.Millisecond), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && t.Unix() > 0 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, services.Errorf(services.Invalid, "--available: %q is neither a date nor a duration", text).
		WithRemedy("write it like 2030-12-24T18:00:00Z, 2030-12-24 or 90m")
}
