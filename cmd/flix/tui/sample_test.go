package tui

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"go.uber.org/goleak"

	"github.com/flix-lab/flix/lab/control"
)

func TestMain(m *testing.M) {
	// teatest never ends the goroutine that waits for its interrupt.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/charmbracelet/x/exp/teatest.NewTestModel.func2"))
}

// noon is when every sample was taken.
var noon = time.Date(2030, 5, 6, 12, 0, 0, 0, time.UTC)

func sampleStatus() control.Status {
	st := control.Status{Name: "default", Runtime: "embedded", Daemon: control.DaemonStatus{State: "running", PID: 4100, Started: noon.Add(-time.Hour)}, RSSBytes: 189 << 20}
	roles := []string{"dns", "elb", "registry", "gateway", "signup", "discovery", "play", "playback", "license", "steering", "cachecontrol", "keystone", "evcache", "kafka", "kv", "sql"}
	for n, region := range []string{"us-east", "us-west", "eu-west"} {
		r := control.RegionStatus{Name: region, State: "ready", Share: 1}
		for z, zone := range []string{"a", "b"} {
			for i, role := range roles {
				r.Instances = append(r.Instances, control.InstanceStatus{
					Name: fmt.Sprintf("%s/%s/%s/1", region, zone, role), Role: role, Zone: zone, State: "running", PID: 4200 + n,
					Started:   noon.Add(-time.Duration(10+i) * time.Minute),
					Endpoints: map[string]string{"grpc": fmt.Sprintf("127.0.0.1:%d", 20000+n*1000+z*100+i), "admin": fmt.Sprintf("127.0.0.1:%d", 25000+n*1000+z*100+i)},
				})
			}
		}
		st.Regions = append(st.Regions, r)
		st.Instances += len(r.Instances)
	}
	west := &st.Regions[1]
	west.State = "degraded"
	west.Instances[8].State, west.Instances[8].Restarts = "failed", 3
	west.Instances[8].Error = "listen tcp 127.0.0.1:21008: bind: address already in use"
	west.Instances[9].State, west.Instances[9].PID = "stopped", 0
	st.Regions[2].State, st.Regions[2].Share = "evacuated", 0
	return st
}

func sampleSessions(step uint64) []control.Session {
	return []control.Session{
		{Session: "s-0001", Title: "harbor-lights", Member: "m-ada", Region: "us-east", ISP: "us-east-isp-1", Appliance: "us-east/us-east-isp-1/oca/1", Rung: "v3", PositionS: 12.4 + float64(step), State: "playing", Bytes: 1<<20 + step*700_000, Updated: noon.Add(-time.Second)},
		{Session: "s-0002", Title: "garden-of-cells", Member: "m-bo", Region: "us-west", ISP: "us-west-isp-2", Appliance: "us-west/us-west-isp-2/oca/2", Rung: "v1", PositionS: 61.9 + float64(step), State: "playing", Bytes: 3<<20 + step*(200_000+step*9_000), RebufferS: 1.4, Updated: noon.Add(-2 * time.Second)},
		{Session: "s-0000", Title: "night-train", Member: "m-cy", Region: "eu-west", ISP: "eu-west-isp-1", Appliance: "eu-west/eu-west-ix/oca/1", Rung: "v2", PositionS: 30, State: "stopped", Bytes: 5 << 20, Updated: noon.Add(-3 * time.Minute)},
		{Session: "s-0003", Title: "paper-moons", Member: "m-di", Region: "us-west", ISP: "us-west-isp-2", Appliance: "", Rung: "", PositionS: 0, State: "failed", Updated: noon.Add(-90 * time.Second)},
	}
}

func sampleFill() control.FillStatus {
	st := control.FillStatus{UniqueBytes: 33 << 20, OriginEgressBytes: 33 << 20, OriginEgressRatio: 1}
	for _, region := range []string{"us-east", "us-west"} {
		for n, x := range []struct{ site, kind string }{{"ix", "exchange"}, {"ix", "exchange"}, {"isp-1", "isp"}, {"isp-1", "isp"}} {
			a := control.ApplianceFill{Name: fmt.Sprintf("%s/%s-%s/oca/%d", region, region, x.site, n%2+1), Region: region, Site: region + "-" + x.site, Kind: x.kind,
				Assigned: 48, Held: 48, AssignedBytes: 11 << 20, HeldBytes: 11 << 20, Percent: 100, Healthy: true}
			switch n {
			case 0:
				a.CacheFillBytes = 11 << 20
			case 2:
				a.TierFillBytes = 11 << 20
			default:
				a.PeerFillBytes = 11 << 20
			}
			st.Appliances = append(st.Appliances, a)
		}
	}
	last := &st.Appliances[7]
	last.Held, last.HeldBytes, last.PeerFillBytes, last.Percent, last.Healthy = 18, 4<<20, 4<<20, 36.4, false
	return st
}

func sampleMoves() []control.Failover {
	return []control.Failover{
		{ID: "1", Verb: "failover", Region: "us-west", State: "rolled_back", Started: noon.Add(-time.Hour), PlaysDuring: 9, PlaysFailed: 2, Error: "2 canary plays failed in us-east"},
		{ID: "2", Verb: "failover", Region: "eu-west", State: "running", Started: noon.Add(-3 * time.Second), PlaysDuring: 4, Steps: []control.Step{{Name: "plan", MS: 2.1}, {Name: "scale", MS: 212}, {Name: "proxy", MS: 1203}}},
	}
}

func sampleCommands() control.Commands {
	var out control.Commands
	for _, x := range []struct{ role, name, group string }{
		{"discovery", "GetRows", "recommend"}, {"discovery", "GetTitles", "sql"}, {"discovery", "SearchTitles", "search"},
		{"play", "AuthorizePlay", "playback"}, {"play", "GetLicense", "license"}, {"play", "RankAppliances", "steering"},
		{"playback", "ListSessions", "kv"},
	} {
		for n, zone := range []string{"a", "b"} {
			c := control.Command{
				Name: x.name, Group: x.group, Role: x.role, Region: "us-east", Zone: zone, Instance: "us-east/" + zone + "/" + x.role + "/1", Breaker: "closed",
				InFlight: n, MaxConcurrent: 256, Rate: 12.5, WindowCalls: 25, P50MS: 1.2, P99MS: 8.75, MaxMS: 9, Window: map[string]uint64{"success": 25},
			}
			switch {
			case x.name == "GetLicense" && n == 0:
				c.Breaker, c.WindowFailures, c.Limit, c.Window = "open", 20, 31, map[string]uint64{"success": 5, "timeout": 20, "short_circuited": 40}
			case x.name == "GetLicense":
				c.Limit = 200
			case x.name == "RankAppliances":
				c.Forced, c.Window, c.MaxMS = "open", map[string]uint64{"fallback_success": 25}, 0
			case x.name == "ListSessions" && n == 1:
				c.Breaker = "half_open"
			}
			out.Commands = append(out.Commands, c)
		}
	}
	return out
}

func sampleEvents(n int) []control.Event {
	kinds := []string{"instance.start", "play.done", "instance.failed", "fill.run", "play.failed", "instance.restarted"}
	var out []control.Event
	for i := range n {
		out = append(out, control.Event{Seq: uint64(i + 1), At: noon.Add(time.Duration(i-n) * time.Second), Kind: kinds[i%len(kinds)],
			Subject: "us-west/a/license/1", Text: fmt.Sprintf("event number %d of the sample, with a text that is somewhat long", i+1),
			Data: map[string]any{"n": i + 1, "trace_id": "5f0c"}})
	}
	return out
}

// feedAll is every message of a lab that was watched for a while.
func feedAll() []tea.Msg {
	out := []tea.Msg{clock(noon), answer[control.Status]{noon, sampleStatus(), nil}, answer[control.FillStatus]{noon, sampleFill(), nil},
		answer[[]control.Failover]{noon, sampleMoves(), nil}, answer[control.Commands]{noon, sampleCommands(), nil}, news{events: sampleEvents(40)}}
	for step := range uint64(30) {
		out = append(out, answer[[]control.Session]{noon.Add(time.Duration(step) * time.Second), sampleSessions(step), nil})
	}
	return out
}

// shown is a dashboard of a size after messages and keys.
func shown(width, height int, msgs []tea.Msg, keys ...string) model {
	m := newModel(Options{Out: io.Discard})
	msgs = append([]tea.Msg{tea.WindowSizeMsg{Width: width, Height: height}}, msgs...)
	return press(send(m, msgs...), keys...)
}

func send(m model, msgs ...tea.Msg) model {
	for _, msg := range msgs {
		next, cmd := m.Update(msg)
		m = next.(model)
		if cmd != nil {
			if msg := cmd(); msg != nil {
				m = send(m, msg)
			}
		}
	}
	return m
}

func press(m model, keys ...string) model {
	for _, k := range keys {
		m = send(m, keyOf(k))
	}
	return m
}

func keyOf(k string) tea.KeyMsg {
	named := map[string]tea.KeyType{
		"enter": tea.KeyEnter, "esc": tea.KeyEsc, "tab": tea.KeyTab, "shift+tab": tea.KeyShiftTab, "up": tea.KeyUp, "down": tea.KeyDown,
		"pgdown": tea.KeyPgDown, "pgup": tea.KeyPgUp, "backspace": tea.KeyBackspace, "ctrl+c": tea.KeyCtrlC, "ctrl+u": tea.KeyCtrlU, "end": tea.KeyEnd,
	}
	if t, ok := named[k]; ok {
		return tea.KeyMsg{Type: t}
	}
	return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)}
}

// letters spells a text as keys.
func letters(s string) []string { return strings.Split(s, "") }

// fake is a lab that a test drives. Safe for concurrent use.
type fake struct {
	mu     sync.Mutex
	down   bool
	asked  map[string]int
	after  []uint64 // that followers asked for
	events []control.Event
	more   chan struct{} // closed when events or down change
	// hang makes fill never answer.
	hang bool
}

func newFake(events []control.Event) *fake {
	return &fake{events: events, asked: map[string]int{}, more: make(chan struct{})}
}

func (f *fake) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.more)
	f.more = make(chan struct{})
}

func (f *fake) ask(kind string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[kind]++
	if f.down {
		return control.ErrNoDaemon
	}
	return nil
}

func (f *fake) count(kind string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[kind]
}

func (f *fake) Status(context.Context) (control.Status, error) {
	return sampleStatus(), f.ask("status")
}

func (f *fake) FillStatus(ctx context.Context) (control.FillStatus, error) {
	if f.hang {
		f.ask("fill")
		<-ctx.Done()
		return control.FillStatus{}, ctx.Err()
	}
	return sampleFill(), f.ask("fill")
}

func (f *fake) Sessions(context.Context) ([]control.Session, error) {
	return sampleSessions(0), f.ask("sessions")
}

func (f *fake) FailoverStatus(context.Context) ([]control.Failover, error) {
	return sampleMoves(), f.ask("moves")
}

func (f *fake) Commands(context.Context, control.CommandQuery) (control.Commands, error) {
	return sampleCommands(), f.ask("commands")
}

func (f *fake) Events(ctx context.Context, seq uint64, follow bool, each func(control.Event) error) error {
	if err := f.ask("events"); err != nil {
		return err
	}
	f.mu.Lock()
	if follow {
		f.after = append(f.after, seq)
	}
	f.mu.Unlock()
	for {
		f.mu.Lock()
		events, more, down := f.events, f.more, f.down
		f.mu.Unlock()
		if down {
			return nil
		}
		for _, e := range events {
			if e.Seq > seq {
				if err := each(e); err != nil {
					return err
				}
				seq = e.Seq
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
