package e2e_test

import (
	"strings"
	"testing"
)

// TestHostNetwork takes a lab whose containers share this machine's network
// through a failover, and finds what cannot be there refused.
func TestHostNetwork(t *testing.T) {
	long(t)
	rt := containersOnly(t)
	l := up(t, rt, "--regions", "2", "--network", "host")
	for _, region := range []string{"us-east", "us-west"} {
		wantPlayed(t, l.play(quick(region)...), 6)
	}
	t.Run("what is not emulated is told", func(t *testing.T) {
		l := l.on(t)
		if r := l.must("lab", "status"); !strings.Contains(r.stdout+r.stderr, "not emulated: replication of the kv") {
			t.Errorf("status says nothing of it: %s", r.story())
		}
		wan := read[struct {
			Shaped   []string `json:"shaped"`
			Unshaped []string `json:"unshaped"`
		}](l, "lab", "wan")
		if len(wan.Unshaped) != 1 || !strings.Contains(wan.Unshaped[0], "replication of the kv") || len(wan.Shaped) == 0 {
			t.Errorf("lab wan: %+v", wan)
		}
	})
	t.Run("nothing listens off the loopback", func(t *testing.T) { l.on(t).wantLoopback() })
	t.Run("regions do not come or go", func(t *testing.T) {
		l := l.on(t)
		for _, n := range []string{"1", "3"} {
			r := l.flix(append([]string{"lab", "up", "--regions", n, "--network", "host"}, rt.flags()...)...)
			wantRefusal(t, r, 5, "--network host", "--network bridge")
		}
		if d := l.diff(); !d.Equal {
			t.Errorf("what was refused left something: %+v", d.Differences)
		}
	})
	t.Run("failover", func(t *testing.T) {
		l := l.on(t)
		m, r := l.move("failover", "us-east")
		if r.code != 0 {
			t.Fatalf("it failed: %s", r.story())
		}
		t.Logf("%+v", m)
		if p := l.play(quick("us-east")...); p.Region != "us-west" {
			t.Errorf("a play near us-east is answered by %s", p.Region)
		}
		if _, r := l.move("failback", "us-east"); r.code != 0 {
			t.Fatalf("it failed: %s", r.story())
		}
		wantPlayed(t, l.play(quick("us-east")...), 6)
	})
	t.Run("stop and start", func(t *testing.T) {
		l := l.on(t)
		l.must("lab", "stop")
		l.must("lab", "start")
		wantPlayed(t, l.play(quick("us-west")...), 6)
	})
	ports := l.portsOf("")
	l.must("lab", "down")
	l.wantNothingLeft()
	l.wantClosed(ports)
}

// wantLoopback fails if a port of the lab listens on an address that other
// machines reach.
func (l *lab) wantLoopback() {
	t := l.t
	t.Helper()
	ours := map[int]bool{}
	for _, p := range l.portsOf("") {
		ours[p] = true
	}
	open, err := listeners()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range open {
		if ours[o.port] && !o.loopback {
			t.Errorf("port %d of the lab listens on every address", o.port)
		}
	}
}
