package oca

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// A full disk keeps an appliance from filling and from nothing else; another
// fault of the disk makes it unwell.
func TestFullDiskIsNoIllness(t *testing.T) {
	var fault DiskFault
	s := newTestServer(t, func(d *Deps) { d.Disk = func() DiskFault { return fault } })
	s.outbox.start(&pb.Hello{})
	report := func() *pb.Report {
		t.Helper()
		s.report()
		queue, ok := s.outbox.take()
		if !ok {
			t.Fatal("the outbox is full")
		}
		return queue[len(queue)-1].GetReport()
	}
	look := func() { s.checkHealth(sample{took: 1 << 40}) }
	if r := report(); !r.GetHealthy() || r.GetFull() || r.GetReason() != "" {
		t.Fatalf("at first: %v", r)
	}
	fault.Full = true
	look()
	if r := report(); !r.GetHealthy() || !r.GetFull() || !strings.HasPrefix(r.GetReason(), "disk: ") {
		t.Errorf("with a full disk: %v", r)
	}
	s.diskFailed(errors.Join(errors.New("index log"), syscall.EIO))
	if r := report(); r.GetHealthy() || !r.GetFull() {
		t.Errorf("with a full disk that fails: %v", r)
	}
	fault.Full = false
	look()
	if r := report(); !r.GetHealthy() || r.GetFull() || r.GetReason() != "" {
		t.Errorf("with room again: %v", r)
	}
}

// TestUnrouted is of an appliance that lacks routes and nothing else.
func TestUnrouted(t *testing.T) {
	h := newHealth()
	for _, c := range []struct {
		what string
		do   func()
		want bool
	}{
		{"well", func() {}, false},
		{"no session", func() { h.setSession("bgp: no session") }, true},
		{"and the disk fails", func() { h.set("disk: full") }, false},
		{"which mends", func() { h.set("") }, true},
		{"draining", h.drain, false},
	} {
		c.do()
		if got := h.unrouted(); got != c.want || got && h.reason() == "" {
			t.Errorf("%s: unrouted %v, want %v; %q", c.what, got, c.want, h.reason())
		}
	}
}
