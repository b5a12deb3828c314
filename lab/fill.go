package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// mediaBucket holds published titles; only appliances read it.
const mediaBucket = "media"

// originalsBucket holds uploads.
const originalsBucket = "originals"

// askTime bounds one question to a region before the next one is asked.
const askTime = 2 * time.Second

// anyCacheControl asks the regions' cache controls in order until one answers:
// each of them knows every appliance.
func (l *Lab) anyCacheControl(ctx context.Context, ask func(context.Context, cachecontrolpb.CacheControlClient) error) error {
	i, err := l.need()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range i.Topology.RegionNames() {
		cc, err := l.cacheControl(r)
		if err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, askTime)
		err = ask(short, cc)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if k := services.KindOf(err); k == services.NotFound || k == services.Invalid || k == services.Exhausted {
			return err // another region's would say the same
		}
		errs = append(errs, fmt.Errorf("%s: %w", r, err))
	}
	return &services.Error{Op: "cache control", Kind: services.Unavailable, Msg: "no region's answers", Err: errors.Join(errs...), Remedy: "bring it up again: flix lab up"}
}

// FillStatus implements control.Engine.
func (l *Lab) FillStatus(ctx context.Context) (control.FillStatus, error) {
	out := control.FillStatus{Appliances: []control.ApplianceFill{}, Rules: []control.FillRule{}, WaitingFor: []control.WaitingTitle{}, IgnoredPrefixes: []control.IgnoredPrefix{}}
	var rep *cachecontrolpb.FillStatusReply
	if err := l.anyCacheControl(ctx, func(ctx context.Context, cc cachecontrolpb.CacheControlClient) (err error) {
		rep, err = cc.FillStatus(ctx, &cachecontrolpb.FillStatusRequest{})
		return err
	}); err != nil {
		return out, err
	}
	for _, a := range rep.GetAppliances() {
		f := control.ApplianceFill{
			Name: a.GetName(), Region: a.GetRegion(), Site: a.GetSite(), Kind: a.GetKind(),
			Assigned: int(a.GetAssigned()), Held: int(a.GetHeld()), AssignedBytes: a.GetAssignedBytes(), HeldBytes: a.GetHeldBytes(),
			CacheFillBytes: a.GetFilled().GetCache(), TierFillBytes: a.GetFilled().GetTier(), PeerFillBytes: a.GetFilled().GetPeer(),
			Healthy: a.GetHealthy(), Percent: 100, Blocked: a.GetBlocked(), FillTime: fillTimeOf(a.GetTime()),
		}
		if f.AssignedBytes > 0 {
			f.Percent = 100 * float64(f.HeldBytes) / float64(f.AssignedBytes)
		}
		out.Appliances = append(out.Appliances, f)
	}
	slices.SortFunc(out.Appliances, func(a, b control.ApplianceFill) int { return strings.Compare(a.Name, b.Name) })
	out.UniqueBytes, out.FillTime, out.Rules = rep.GetUniqueBytes(), fillTimeOf(rep.GetTime()), fillRulesOf(rep.GetRules())
	out.Unheld, out.Waiting, out.UnevenSites = orNone(rep.GetUnheld()), orNone(rep.GetWaiting()), orNone(rep.GetUneven())
	out.WaitingFor = waitsOf(rep.GetWaits())
	for _, p := range rep.GetIgnored() {
		out.IgnoredPrefixes = append(out.IgnoredPrefixes, control.IgnoredPrefix{Site: p.GetSite(), Prefix: p.GetPrefix()})
	}
	egress, err := l.originEgress(ctx)
	if err != nil {
		return out, err
	}
	out.OriginEgressBytes = egress
	if out.UniqueBytes > 0 {
		out.OriginEgressRatio = float64(egress) / float64(out.UniqueBytes)
	}
	return out, nil
}

// metric reads a counter or gauge off an instance's metrics endpoint: the sum
// of the series whose labels hold the given text; 0 when there is none yet.
func (l *Lab) metric(ctx context.Context, s runtime.Spec, name, labels string) (float64, error) {
	raw, err := l.metrics(ctx, s, name)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for line := range bytes.Lines(raw) {
		text := strings.TrimSpace(string(line))
		rest, ok := strings.CutPrefix(text, name)
		if !ok || rest == "" || (rest[0] != '{' && rest[0] != ' ') || !strings.Contains(rest, labels) {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: metric %s: %w", s.ID, name, err)
		}
		sum += v
	}
	return sum, nil
}

// FillRun implements control.Engine. Every appliance is asked, through the
// cache control of any region.
func (l *Lab) FillRun(ctx context.Context, r control.FillRunRequest) (control.FillRunResult, error) {
	var res control.FillRunResult
	if r.Title != "" {
		if _, err := l.SetFillRule(ctx, control.FillRule{Kind: "urgent", Scope: r.Scope, Title: r.Title, Active: true}); err != nil {
			return res, err
		}
	}
	err := l.anyCacheControl(ctx, func(ctx context.Context, cc cachecontrolpb.CacheControlClient) error {
		rep, err := cc.FillRun(ctx, &cachecontrolpb.FillRunRequest{Now: r.Now, Deep: r.Deep})
		res = control.FillRunResult{Appliances: int(rep.GetAppliances()), Orders: int(rep.GetOrders())}
		return err
	})
	if err == nil {
		l.log.Add("fill.run", l.paths.Name, fmt.Sprintf("%d appliances compare their disks with their plans", res.Appliances), nil)
	}
	return res, err
}

// fillTime bounds the wait for the first fill during an up: a lab is ready
// before every appliance is full.
const fillTime = 20 * time.Second

// awaitFill waits until every appliance holds what it is assigned.
func (l *Lab) awaitFill(ctx context.Context) (string, error) {
	short, cancel := context.WithTimeout(ctx, fillTime)
	defer cancel()
	want := 0
	for _, i := range l.current().instances() {
		if i.Role == topology.RoleOCA && !l.current().Stopped[i.ID] {
			want++
		}
	}
	var st control.FillStatus
	answered := false
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		now, err := l.FillStatus(short)
		if err == nil {
			st, answered = now, true
			if filled(st, want) {
				return fmt.Sprintf("%d appliances are full, origin egress ratio %.3f", want, st.OriginEgressRatio), nil
			}
			if n := blockedBy(st, cachecontrol.WindowClosed); n > 0 && n == lacking(st) && len(st.Appliances) >= want {
				return "waits for the fill windows: " + unfilled(st, want) + "; flix fill run --now" + nameFlag(l.paths.Name) + " fills at once", nil
			}
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-short.Done():
			if !answered {
				return "goes on, but no region says how far it is; see flix fill status", nil
			}
			return "goes on: " + unfilled(st, want) + "; see flix fill status", nil
		case <-time.After(wait):
		}
	}
}

// unfilledShown is how many appliances unfilled names.
const unfilledShown = 3

// unfilled says what a fill lacks.
func unfilled(st control.FillStatus, want int) string {
	var lacks []string
	if n := len(st.Appliances); n < want {
		lacks = append(lacks, fmt.Sprintf("%d of %d appliances have not reported", want-n, want))
	}
	short := 0
	for _, a := range st.Appliances {
		if a.Held >= a.Assigned && a.Assigned > 0 {
			continue
		}
		if short++; short > unfilledShown {
			continue
		}
		text := fmt.Sprintf("%s lacks %d of %d files", a.Name, a.Assigned-a.Held, a.Assigned)
		if a.Blocked != "" {
			text += " (" + a.Blocked + ")"
		}
		lacks = append(lacks, text)
	}
	if short > unfilledShown {
		lacks = append(lacks, fmt.Sprintf("and %d more do", short-unfilledShown))
	}
	if len(lacks) == 0 {
		return "no file is published yet"
	}
	return strings.Join(lacks, ", ")
}

// heldUp adds to the remedy of a title that does not play what its files wait for,
// if no time brings them.
func (l *Lab) heldUp(ctx context.Context, err error) error {
	st, serr := l.FillStatus(ctx)
	if serr != nil {
		return err
	}
	return fillingLater(l.paths.Name, st, err)
}

// fillingLater is heldUp by what is known of the fill.
func fillingLater(name string, st control.FillStatus, err error) error {
	var e *services.Error
	if services.ReasonOf(err) != services.ReasonNoReplica || !errors.As(err, &e) || lacking(st) == 0 {
		return err
	}
	why := ""
	pause := slices.IndexFunc(st.Rules, func(r control.FillRule) bool { return r.Kind == "pause" })
	switch {
	case pause >= 0:
		why = "fills are paused: flix fill resume " + st.Rules[pause].Scope
		why = strings.TrimSpace(why) + nameFlag(name)
	case blockedBy(st, cachecontrol.WindowClosed) > 0:
		why = "the sites' fill windows are closed (timing.fill_window_start, fill_window): fill now with flix fill run --now" + nameFlag(name)
	case blockedBy(st, cachecontrol.DiskFull) > 0: // others wait for what these would get
		why = "the disks of " + services.Count(blockedBy(st, cachecontrol.DiskFull), "appliance") + " are full: free space on the disk of the lab's state (XDG_STATE_HOME, else ~/.local/state); flix lab snapshot ls shows what may go"
	default:
		return err
	}
	later := *e
	later.Err, later.Msg, later.Op = err, "", ""
	later.Remedy = strings.TrimSuffix(why+", then "+e.Remedy, ", then ")
	return &later
}

// lacking is how many appliances lack something of what they are assigned, or are
// assigned nothing yet.
func lacking(st control.FillStatus) (n int) {
	for _, a := range st.Appliances {
		if a.Held < a.Assigned || a.Assigned == 0 {
			n++
		}
	}
	return n
}

// blockedBy is how many appliances lack something and are given nothing, for a
// reason that begins with some words.
func blockedBy(st control.FillStatus, words string) (n int) {
	for _, a := range st.Appliances {
		if a.Held < a.Assigned && strings.HasPrefix(a.Blocked, words) {
			n++
		}
	}
	return n
}

func filled(st control.FillStatus, want int) bool {
	return len(st.Appliances) >= want && st.UniqueBytes > 0 && lacking(st) == 0
}
