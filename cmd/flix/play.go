package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

type playOptions struct {
	o         lab.PlayOptions
	ip        string
	bandwidth string
	speed     string
	out       output
}

func newPlayCmd(a *app) *cobra.Command {
	o := playOptions{}
	c := &cobra.Command{
		Use: "play", Short: "Watch a title as a viewer would", Args: cobra.NoArgs,
		Long: `Plays a title through the whole path: DNS, balancer, gateway, sign-in, search,
licence, steering, and CMAF segments from an Open Connect appliance. It adapts
to throughput, changes appliance on failure, and checks every segment.`,
		Example: "  flix play --title \"Harbor Lights\"\n  flix play --title harbor-lights --region eu-west --bandwidth 300k -o json\n  flix play --title harbor-lights --save out.mp4 --speed 20x",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			if err := o.parse(); err != nil {
				return err
			}
			return runPlay(cmd.Context(), a, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.o.Title, "title", "", "name or id of the title")
	f.StringVar(&o.o.Country, "country", "", "country of the client (picks an ISP there)")
	f.StringVar(&o.o.ISP, "isp", "", "ISP of the client")
	f.StringVar(&o.ip, "ip", "", "simulated address of the client")
	f.StringVar(&o.o.Region, "region", "", "region the client lives near; it never pins the region that answers")
	f.StringVar(&o.o.Device, "device", "web", "web, phone or tv")
	f.StringVar(&o.bandwidth, "bandwidth", "", "cap of the access link, e.g. 300k or 20M (bits per second)")
	f.StringVar(&o.speed, "speed", "1x", "speed of the playback clock, e.g. 10x")
	f.Float64Var(&o.o.Seconds, "seconds", 0, "seconds of the title to play; 0 is all of it")
	f.IntVar(&o.o.Height, "height", 0, "resolution wanted in lines; 0 is what the plan allows")
	f.StringVar(&o.o.ABR, "abr", abr.Names()[0], "adaptation algorithm: "+strings.Join(abr.Names(), ", "))
	f.BoolVar(&o.o.Resume, "resume", false, "begin where the member left off")
	f.StringVar(&o.o.Save, "save", "", "write what was received to an MP4 file")
	f.StringVar(&o.o.Email, "email", lab.DemoEmail, "member to sign in as")
	f.StringVar(&o.o.Password, "password", lab.DemoPassword, "password of the member")
	_ = c.MarkFlagRequired("title") // the flag is there
	o.out.flag(c, "text", "json", "yaml")
	return c
}

func (o *playOptions) parse() error {
	if o.ip != "" {
		ip, err := netip.ParseAddr(o.ip)
		if err != nil {
			return services.Errorf(services.Invalid, "--ip: %q is not an address", o.ip).WithRemedy("use one of an ISP's prefixes, e.g. 198.18.0.10 (flix lab topology show lists them); any other comes by transit")
		}
		o.o.IP = ip
	}
	if o.bandwidth != "" {
		r, err := topology.ParseRate(o.bandwidth)
		if err != nil {
			return services.Errorf(services.Invalid, "--bandwidth: %v", err)
		}
		if r < 1000 {
			return services.Errorf(services.Invalid, "--bandwidth: %s is below 1 kbit/s", o.bandwidth).WithRemedy("write the unit, e.g. 300k or 20M")
		}
		o.o.Bandwidth = r
	}
	var err error
	if o.o.Speed, err = parseSpeed(o.speed); err != nil {
		return err
	}
	if !abr.Known(o.o.ABR) {
		return services.Errorf(services.Invalid, "--abr: there is no algorithm %q", o.o.ABR).WithRemedy("use one of %s", strings.Join(abr.Names(), ", "))
	}
	if !(o.o.Seconds >= 0) || math.IsInf(o.o.Seconds, 0) {
		return services.Errorf(services.Invalid, "--seconds: %g is not 0 or more", o.o.Seconds).WithRemedy("use 0 for the whole title")
	}
	if o.o.Height < 0 || o.o.Height > maxHeight {
		return services.Errorf(services.Invalid, "--height: %d is not within 0 to %d lines", o.o.Height, maxHeight).WithRemedy("use 0 for what the plan allows, or write it like 720")
	}
	if strings.TrimSpace(o.o.Title) == "" {
		return services.Errorf(services.Invalid, "--title: %q names no title", o.o.Title).WithRemedy("flix title ls lists them")
	}
	switch o.o.Device {
	case "web", "phone", "tv":
	default:
		return services.Errorf(services.Invalid, "--device: %q is not a device", o.o.Device).WithRemedy("use web, phone or tv")
	}
	return nil
}

// maxHeight is the most lines that the API takes.
const maxHeight = 1 << 16

// parseSpeed reads the speed of a playback clock, like 1x.
func parseSpeed(s string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "x"), 64)
	if err != nil || !(v > 0) || v > 1000 {
		return 0, services.Errorf(services.Invalid, "--speed: %q is not a speed", s).WithRemedy("use a factor above 0 and up to 1000, e.g. 1x or 10x")
	}
	return v, nil
}

func runPlay(ctx context.Context, a *app, o playOptions) error {
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	world, err := client.World(ctx)
	if err != nil {
		return err
	}
	if err := o.places(world.Topology); err != nil {
		return err
	}
	o.o.Seed = rand.Uint64() // a client of its own at every play
	view := render.NewSteps(a.env.errOut())
	viewer, err := lab.NewViewer(world, func(p lab.PlayProgress) { view.Live("%s", playLine(p)) })
	if err != nil {
		view.Close()
		return err
	}
	follow, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() { defer close(followed); viewer.Follow(follow, client) }()
	rep, err := viewer.Play(ctx, o.o)
	stop()
	<-followed
	view.Close()
	err = unpublished(ctx, client.Jobs, o.o.Title, err)
	if rep.TraceID != "" {
		recordPlay(client, viewer, o.o.Title, rep, err)
	}
	if o.out.machine() && rep.SessionID != "" {
		if perr := o.out.print(a, rep); perr != nil {
			return perr
		}
		return err
	}
	if err != nil {
		return err
	}
	printPlay(a, o, rep)
	return nil
}

// places checks what names a place against the topology.
func (o playOptions) places(t topology.Topology) error {
	if o.o.Region != "" {
		if _, ok := t.Region(o.o.Region); !ok {
			return services.Errorf(services.NotFound, "--region: there is no region %q", o.o.Region).WithRemedy("the lab's regions are %s", strings.Join(t.RegionNames(), ", "))
		}
	}
	return nil
}

// recordPlay hands the play to the lab's event log and its traces; the play was
// what mattered, so a daemon that is gone is no failure.
func recordPlay(client *control.Client, v *lab.Viewer, title string, rep lab.PlayReport, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	e := control.Event{Kind: "play.done", Subject: rep.TitleID, Text: fmt.Sprintf("%s played %.0f s near %s, %d rebuffers", rep.TitleID, rep.SecondsPlayed, rep.ISP, rep.Rebuffers),
		Data: map[string]any{"session": rep.SessionID, "region": rep.Region, "play_delay_ms": rep.PlayDelayMS, "rebuffers": rep.Rebuffers, "trace_id": rep.TraceID}}
	if err != nil {
		e.Kind, e.Text = "play.failed", fmt.Sprintf("a play of %s failed: %v", cmp.Or(rep.TitleID, title), err)
	}
	_ = client.Record(ctx, e, v.Spans(rep.TraceID))
}

func playLine(p lab.PlayProgress) string {
	return fmt.Sprintf("%-8s %5.1f/%.0f s  %4dp %5d kbit/s  buffer %4.1f s  %s %s  %s  rebuffers %d",
		p.State, p.PositionS, p.DurationS, p.Height, p.Kbps, p.BufferS, p.Kind, p.Appliance, render.Bytes(p.Bytes), p.Rebuffers)
}

func printPlay(a *app, o playOptions, r lab.PlayReport) {
	s := a.env.out()
	check := s.Good("checksums ok")
	if !r.ChecksumOK {
		check = s.Bad("checksums do not match")
	}
	s.Printf("played %s of %s: %.1f s of media, %d segments, %s, %s\n", s.Bold(r.TitleID), r.ISP, r.SecondsPlayed, r.Segments, render.Bytes(r.Bytes), check)
	s.Printf("  region %s by %s · play delay %s · mean %.0f kbit/s · %d rung switches\n", s.Bold(r.Region), r.Gateway, s.Bold(render.MS(r.PlayDelayMS)), r.MeanKbps, r.Switches)
	if r.MeanSSIM > 0 {
		s.Printf("  mean SSIM %.4f of the original's pictures\n", r.MeanSSIM)
	}
	s.Printf("  rebuffers %d (ratio %.4f) · appliance switches %d\n", r.Rebuffers, r.RebufferRatio, r.ApplianceSwitches)
	if r.Abandoned+r.Replaced > 0 {
		s.Printf("  downloads given up %d · segments replaced %d (%s not shown)\n", r.Abandoned, r.Replaced, render.Bytes(r.WastedBytes))
	}
	for _, x := range r.Appliances {
		s.Printf("  from %s (%s) %s, %.0f %%\n", x.Name, x.Kind, render.Bytes(x.Bytes), 100*x.Share)
	}
	for _, x := range r.Rungs {
		similar := ""
		if x.SSIM > 0 {
			similar = fmt.Sprintf(", SSIM %.3f", x.SSIM)
		}
		s.Printf("  rung %s %dp %d kbit/s: %d segments%s\n", x.ID, x.Height, x.Kbps, x.Segments, similar)
	}
	for _, e := range onceEach(r.Errors) {
		s.Printf("  %s %s\n", s.Warn("!"), e)
	}
	if o.o.Save != "" {
		s.Printf("  saved to %s\n", o.o.Save)
	}
	s.Printf("%s\n", s.Dim("trace it: flix trace "+r.TraceID))
}

// onceEach lists texts in the order in which they came first, each once and with how
// often it came.
func onceEach(texts []string) (out []string) {
	times := map[string]int{}
	for _, t := range texts {
		if times[t]++; times[t] == 1 {
			out = append(out, t)
		}
	}
	for i, t := range out {
		if n := times[t]; n > 1 {
			out[i] = fmt.Sprintf("%d × %s", n, t)
		}
	}
	return out
}
