package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMoveIsResumed ends the daemon and the command in the course of failovers
// and failbacks. The same command goes on to the same end, its opposite undoes
// what was done, and nothing stays half-moved.
func TestMoveIsResumed(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			rt.seldom(t)
			l := up(t, rt, "--regions", "3")
			for _, c := range []struct {
				name string
				f    func(*lab)
			}{
				{"two at once, and an interrupt", twoMovesAtOnce},
				{"dead daemon during a failover", failoverGoesOn},
				{"dead daemon during a failback", failbackGoesOn},
				{"undone by its opposite", moveIsUndone},
				{"dead command", commandOfMoveDies},
				{"failback to a sick region, and an interrupt", failbackIsUndone},
			} {
				if !t.Run(c.name, func(t *testing.T) { c.f(l.on(t)) }) {
					return
				}
			}
		})
	}
}

// moving starts a failover or failback and returns when it says something of its
// course. It goes at the safe pace, which leaves seconds for what is to happen in
// its course, however busy the machine is.
func (l *lab) moving(verb, says string, flags ...string) *command {
	l.t.Helper()
	c := l.start(nil, append([]string{verb, "us-east", "--yes", "--pace", "safe"}, flags...)...)
	await(l.t, l.rt.patience(30*time.Second), verb+" to say "+says, func() error {
		if strings.Contains(c.err.String(), says) {
			return nil
		}
		return errors.New(tail(c.err.String(), 3))
	})
	return c
}

// cut kills the daemon in the course of a move.
func (l *lab) cut(verb, says string) (said string) {
	l.t.Helper()
	c := l.moving(verb, says)
	l.strike("daemon")
	wantRefusal(l.t, c.wait(), 6, "run the same command again")
	if all := l.evacuations(); len(all) == 0 || all[len(all)-1].State != "cut short" {
		l.t.Errorf("after %s failover status lists %+v", says, all)
	}
	return c.err.String()
}

// wantMoved runs a move that has to come to its end.
func (l *lab) wantMoved(verb string) {
	l.t.Helper()
	m, r := l.move(verb, "us-east")
	if r.code != 0 || m.State != "done" || m.PlaysFailed != 0 {
		l.t.Fatalf("it did not come to its end: %s", r.story())
	}
	if verb == "failover" {
		l.wantLeft()
	} else {
		l.wantReturned()
	}
}

// wantLeft fails unless us-east is evacuated, and nothing is dark.
func (l *lab) wantLeft() {
	l.t.Helper()
	if r := l.region("us-east"); r.State != "evacuated" || r.Share != 0 {
		l.t.Errorf("us-east is %s with share %g", r.State, r.Share)
	}
	if p := l.play(quick("us-east")...); p.Region == "us-east" {
		l.t.Error("us-east still answers its clients")
	}
	l.wantNoneCutShort()
}

// wantReturned fails unless the lab is as it was declared.
func (l *lab) wantReturned() {
	l.t.Helper()
	for _, r := range l.status().Regions {
		if r.State != "ready" || r.Share != 1 {
			l.t.Errorf("%s is %s with share %g", r.Name, r.State, r.Share)
		}
		wantRegion(l.t, r)
	}
	await(l.t, l.rt.patience(10*time.Second), "clients of us-east to be answered there", func() error {
		if p := l.play(quick("us-east")...); p.Region != "us-east" {
			return fmt.Errorf("%s answers", p.Region)
		}
		return nil
	})
	l.wantNoneCutShort()
}

func (l *lab) wantNoneCutShort() {
	l.t.Helper()
	for _, m := range l.evacuations() {
		if m.State == "cut short" || m.State == "running" {
			l.t.Errorf("failover status lists %+v", m)
		}
	}
	if n := l.inStatus("STARTING"); n != 0 {
		l.t.Errorf("%d instances are dark", n)
	}
}

// inStatus counts what the registries list in a status.
func (l *lab) inStatus(status string) (n int) {
	l.t.Helper()
	for _, i := range read[struct {
		Instances []struct {
			Status string `json:"status"`
		} `json:"instances"`
	}](l, "registry", "ls").Instances {
		if i.Status == status {
			n++
		}
	}
	return n
}

func twoMovesAtOnce(l *lab) {
	c := l.moving("failover", "✓ check")
	var others []*command // all at once: the first goes on meanwhile
	for _, args := range [][]string{{"failover", "us-east"}, {"failover", "eu-west"}, {"failback", "us-east"}} {
		others = append(others, l.start(nil, append(args, "--yes")...))
	}
	for _, o := range others {
		wantRefusal(l.t, o.wait(), 5, `busy with "failover us-east"`)
	}
	l.interrupts(c)
	l.wantMoved("failover")
	c = l.moving("failback", "✓ offsets")
	wantRefusal(l.t, l.flix("failover", "us-east", "--yes"), 5, `busy with "failback us-east"`)
	if r := c.wait(); r.code != 0 {
		l.t.Fatalf("the failback failed: %s", r.story())
	}
	l.wantReturned()
}

func failoverGoesOn(l *lab) {
	for _, says := range []string{"✓ caches", "✓ dns"} {
		said := l.cut("failover", says)
		if says == "✓ caches" {
			if n := l.inStatus("STARTING"); n == 0 && !strings.Contains(said, "✓ flip") {
				l.t.Error("what was added to the savers is not STARTING before it is flipped")
			}
			wantRefusal(l.t, l.flix("failover", "eu-west", "--yes"), 5, "a failover of us-east was cut short", "flix failback us-east")
		}
		l.wantMoved("failover")
		l.wantMoved("failback")
	}
}

func failbackGoesOn(l *lab) {
	l.wantMoved("failover")
	for _, says := range []string{"· 50%"} {
		l.cut("failback", says)
		l.wantMoved("failback")
		l.wantMoved("failover")
	}
	l.wantMoved("failback")
}

func moveIsUndone(l *lab) {
	l.cut("failover", "✓ dns")
	l.wantMoved("failback")
	l.wantMoved("failover")
	l.cut("failback", "✓ dns")
	l.wantMoved("failover")
	l.wantMoved("failback")
}

// commandOfMoveDies kills the command: the move goes on, and the same command
// goes along.
func commandOfMoveDies(l *lab) {
	c := l.moving("failover", "✓ check")
	before := len(l.evacuations())
	if err := c.cmd.Process.Kill(); err != nil {
		l.t.Fatal(err)
	}
	c.wait()
	l.wantMoved("failover")
	if all := l.evacuations(); len(all) != before {
		l.t.Errorf("it is a second one: %+v", all)
	}
	l.wantMoved("failback")
}

// interrupts presses Ctrl-C in the course of a failover: everything goes back.
func (l *lab) interrupts(c *command) {
	l.t.Helper()
	await(l.t, time.Minute, "half of the requests at the savers", func() error {
		if !strings.Contains(c.err.String(), "· 50%") {
			return errors.New(tail(c.err.String(), 3))
		}
		return nil
	})
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, syscall.ESRCH) {
		l.t.Fatal(err)
	}
	r := c.wait()
	wantRefusal(l.t, r, 130, "us-east serves its clients as before")
	if all := l.evacuations(); all[len(all)-1].State != "rolled_back" {
		l.t.Errorf("failover status ends with %+v", all[len(all)-1])
	}
	l.wantReturned()
}

// failbackIsUndone returns traffic to a region that cannot serve it, then presses
// Ctrl-C in the course of a failback: viewers stay with the savers either way.
func failbackIsUndone(l *lab) {
	l.wantMoved("failover")
	sick := read[activeFault](l, "chaos", "run", "fail-call", "--target", "license", "region=us-east", "--ttl", "10m")
	m, r := l.move("failback", "us-east")
	if r.code != 29 || m.State != "rolled_back" {
		l.t.Errorf("a failback to a sick region: %s", r.story())
	}
	l.wantLeft()
	l.must("chaos", "stop", sick.ID)
	c := l.moving("failback", "· 50%", "-o", "json")
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		l.t.Fatal(err)
	}
	r = c.wait()
	wantRefusal(l.t, r, 130, "us-east stays evacuated", "it begins anew")
	if decode(l.t, r, &m); m.State != "rolled_back" {
		l.t.Errorf("what an interrupted command prints: %s", r.stdout)
	}
	l.wantLeft()
	l.wantMoved("failback")
}
