package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// moment is one kill -9: of what, and when.
type moment struct {
	victim string
	// fresh takes the lab down first, so that the up has everything to do.
	fresh bool
	// step of the up in whose course the kill comes, after so much time in
	// it; "" kills at rest.
	step  string
	after time.Duration
	// slow says that it is tried also where an up takes a minute.
	slow bool
}

func (m moment) String() string {
	when := "at rest"
	if m.step != "" {
		when = fmt.Sprintf("%s after %q of an up", m.after, m.step)
	}
	if m.fresh {
		when += " from nothing"
	}
	return m.victim + " " + when
}

// moments are kills over the whole of an up and after it.
var moments = []moment{
	{"up", true, "start of it", 0, false},
	{"up", true, "start of it", 20 * time.Millisecond, false},
	{"daemon", true, "start of it", 60 * time.Millisecond, false},
	{"up", true, "prepare", 0, false},
	{"daemon", true, "prepare", 50 * time.Millisecond, false},
	{"us-west", true, "prepare", 120 * time.Millisecond, false},
	{"daemon", true, "prepare", 250 * time.Millisecond, true},
	{"up", true, "start", 0, false},
	{"daemon", true, "start", 10 * time.Millisecond, false},
	{"us-east", true, "start", 100 * time.Millisecond, false},
	{"up", true, "seed", 0, false},
	{"daemon", true, "seed", 0, false},
	{"us-west", true, "seed", 50 * time.Millisecond, false},
	{"oc", true, "ready", 0, false},
	{"daemon", true, "ready", 4 * time.Second, true}, // Kafka and the search are on their way
	{"daemon", false, "", 0, false},
	{"us-east", false, "", 0, true},
	{"oc", false, "", 0, false},
	{"up", false, "prepare", 0, false},
	{"daemon", false, "prepare", 0, false},
	{"everything", false, "", 0, true},
}

// TestKills kills the daemon, a host, or the up itself at each of the moments. The
// same up again must end in the same state each time, and a down must leave
// nothing.
func TestKills(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := prepare(t, rt)
			for i, m := range moments {
				if rt.containers() && !m.slow {
					continue
				}
				t.Run(fmt.Sprintf("%02d %s", i+1, m), func(t *testing.T) { l.on(t).survives(m) })
			}
		})
	}
}

func (l *lab) survives(m moment) {
	t := l.t
	if m.fresh {
		l.downIfUp()
	}
	if m.step == "" {
		l.killAtRest(m.victim)
	} else {
		l.killDuringUp(m)
	}
	res := l.up("--regions", "2")
	t.Logf("the up after it took %.0f ms: %v", total(res.Steps), res.Steps)
	st := l.status()
	for _, r := range st.Regions {
		if r.State != "ready" || r.Share != 1 {
			t.Errorf("%s is %s with share %g", r.Name, r.State, r.Share)
		}
		wantRegion(t, r)
		l.wantIndex(r.Name)
	}
	if len(st.Regions) != 2 || res.Instances != st.Instances {
		t.Errorf("%d regions, %d instances, the up says %d", len(st.Regions), st.Instances, res.Instances)
	}
	if _, ok := l.process("daemon", ""); !ok {
		t.Error("there is no daemon")
	}
	l.wantHosts("us-east", "us-west")
	if res := l.up("--regions", "2"); res.Changes.Added != 0 || res.Changes.Removed != 0 {
		t.Errorf("one more up still changes something: %+v", res.Changes)
	}
}

// downIfUp takes the lab down, if there is one, and looks for leftovers.
func (l *lab) downIfUp() {
	l.t.Helper()
	r := l.flix("lab", "status", "-o", "json")
	if r.code == 20 {
		return
	}
	ports := l.portNumbers()
	l.must("lab", "down")
	l.wantNothingLeft()
	l.wantClosed(ports)
}

func (l *lab) killAtRest(victim string) {
	l.t.Helper()
	before := l.status()
	if victim == "everything" {
		for _, p := range l.processes() {
			l.kill(p)
		}
		if l.rt.containers() {
			for _, h := range []string{"us-east", "us-west", "oc"} {
				l.killHost(h)
			}
		}
		return
	}
	if !l.there(victim) {
		l.t.Fatalf("there is no %s to kill", victim)
	}
	l.strike(victim)
	st := l.status() // status still answers, and says so
	if victim == "daemon" {
		if st.Daemon.State == "running" && st.Daemon.PID == before.Daemon.PID {
			l.t.Errorf("status says that the killed daemon runs")
		}
		return
	}
	was := instances(before)
	for name, i := range instances(st) {
		mine := strings.HasPrefix(name, victim+"/") && i.Role != "oca" || victim == "oc" && i.Role == "oca"
		if mine && i.State == "running" && i.Started.Equal(was[name].Started) {
			l.t.Errorf("status says that %s runs, and its host %s was killed", name, victim)
		}
	}
}

// there says whether the daemon or a fault domain is there to be killed.
func (l *lab) there(victim string) bool {
	if victim == "daemon" {
		_, ok := l.process("daemon", "")
		return ok
	}
	if l.rt.containers() {
		return len(l.containerIDs(false, victim)) > 0
	}
	_, ok := l.process("host", victim)
	return ok
}

func (l *lab) strike(victim string) {
	l.t.Helper()
	if victim != "daemon" {
		l.killHost(victim)
		return
	}
	if p, ok := l.process("daemon", ""); ok {
		l.kill(p)
	}
}

// killDuringUp starts an up, waits for its moment and kills the victim.
func (l *lab) killDuringUp(m moment) {
	t := l.t
	t.Helper()
	c := l.start(nil, append([]string{"lab", "up", "--regions", "2"}, l.rt.flags()...)...)
	reached := func() error {
		if m.step != "start of it" && !strings.Contains(c.err.String(), "✓ "+m.step) {
			return errNotYet
		}
		return nil
	}
	await(t, l.rt.patience(30*time.Second), m.step+" of the up", func() error {
		select {
		case <-c.done:
			return nil // it was faster than we are
		default:
			return reached()
		}
	})
	select {
	case <-c.done:
	case <-time.After(m.after): // the moment, not a wait for something
	}
	if m.victim == "up" {
		_ = c.cmd.Process.Kill() // it may have ended
	} else {
		await(t, 30*time.Second, "the "+m.victim+" to be there", func() error {
			if !l.there(m.victim) {
				return errNotYet
			}
			return nil
		})
		l.strike(m.victim)
	}
	r := c.wait()
	t.Logf("the up ended with %d after %s: %s", r.code, r.took.Round(time.Millisecond), tail(r.stderr, 2))
}
