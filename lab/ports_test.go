package lab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

func openPorts(t testing.TB, home, name string) *ports {
	t.Helper()
	p, err := newPorts(home, name, publicAddress, testJournal(t, filepath.Join(home, name)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// TestPortsOfOtherHomes: labs of other homes that listen nowhere, since they are
// coming up or stopped, keep their slots.
func TestPortsOfOtherHomes(t *testing.T) {
	mine, theirs := openPorts(t, t.TempDir(), "x"), openPorts(t, t.TempDir(), "x")
	portsOf(t, theirs, kvOf("north", 1))
	theirs.home = mine.home // both begin to look at the same place
	for n := range 3 {
		first, err := mine.newSlot("north")
		if err != nil {
			t.Fatal(err)
		}
		second, err := theirs.newSlot("south")
		if err != nil || first == second {
			t.Fatalf("slot %d of two labs, %v (%d)", first, err, n)
		}
		if !slotHeld(first) || !slotHeld(second) {
			t.Errorf("slots %d and %d are held by nobody", first, second)
		}
	}
	// The next daemon of a lab has its slots again.
	slots := len(mine.slots)
	mine.close()
	again, err := newPorts(mine.home, mine.name, publicAddress, mine.j)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if err := again.claim(); err != nil || len(again.held) != slots {
		t.Errorf("%d of %d slots are held again, %v", len(again.held), slots, err)
	}
}

func kvOf(region string, n int) topology.Instance {
	return topology.NewInstance(topology.Region{Name: region, Zones: []string{"a", "b"}}, topology.RoleKV, n)
}

func portsOf(t testing.TB, p *ports, i topology.Instance) map[string]int {
	t.Helper()
	m, err := p.of(i)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPortsStayOverReopen assigns the ports of a whole planet, then reads them
// back as the next daemon does.
func TestPortsStayOverReopen(t *testing.T) {
	home := t.TempDir()
	p := openPorts(t, home, "x")
	want := map[string]map[string]int{}
	seen := map[int]string{}
	all := preset(t, 3).Instances()
	for _, i := range all {
		want[i.ID] = portsOf(t, p, i)
		if len(want[i.ID]) != len(i.Ports) {
			t.Errorf("%s has ports %v, want one for each of %v", i.ID, want[i.ID], i.Ports)
		}
		for name, n := range want[i.ID] {
			if other, ok := seen[n]; ok {
				t.Errorf("%s %s and %s share port %d", i.ID, name, other, n)
			}
			seen[n] = i.ID
		}
	}
	w := runtime.World{Ports: p.ranges()}
	for n, id := range seen {
		if region, ok := w.RegionOfPort(n); !ok || region != strings.SplitN(id, "/", 2)[0] {
			t.Errorf("port %d of %s is told to be in %q", n, id, region)
		}
		if n < portFirst || n > portLast {
			t.Errorf("port %d of %s is outside %d to %d", n, id, portFirst, portLast)
		}
	}
	again := openPorts(t, home, "x")
	for _, i := range all {
		if got := portsOf(t, again, i); fmt.Sprint(got) != fmt.Sprint(want[i.ID]) {
			t.Errorf("%s had ports %v, has %v", i.ID, want[i.ID], got)
		}
	}
	if len(again.ranges()) != len(p.ranges()) {
		t.Errorf("%d slots became %d", len(p.ranges()), len(again.ranges()))
	}
}

func TestForeignListenersAreSkipped(t *testing.T) {
	home := t.TempDir()
	p := openPorts(t, home, "x")
	first := portsOf(t, p, kvOf("north", 1))
	highest := 0
	for _, n := range first {
		highest = max(highest, n)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(publicAddress, strconv.Itoa(highest+1)))
	if err != nil {
		t.Skipf("port %d is taken by another program", highest+1)
	}
	defer l.Close()
	for name, n := range portsOf(t, p, kvOf("north", 2)) {
		if n == highest+1 {
			t.Errorf("port %s is %d, where somebody listens", name, n)
		}
	}
	// A slot whose edge is taken is left alone altogether.
	slot := p.ranges()[0].First
	edge, err := net.Listen("tcp", net.JoinHostPort(publicAddress, strconv.Itoa(slot)))
	if err != nil {
		t.Skipf("port %d is taken by another program", slot)
	}
	defer edge.Close()
	home = t.TempDir()
	other := openPorts(t, home, besideOf(home, p)) // the same place to begin, and no knowledge of the first
	portsOf(t, other, kvOf("north", 1))
	if got := other.ranges()[0].First; got == slot {
		t.Errorf("slot %d was taken although somebody listens there", got)
	}
}

// besideOf is the name of a lab of a home that begins its search where another
// one does.
func besideOf(home string, other *ports) string {
	for k := 0; ; k++ {
		if p := (&ports{home: home, name: fmt.Sprintf("lab-%d", k)}); p.start() == other.start() {
			return p.name
		}
	}
}

// TestHomesBeginElsewhere has labs of one name in several homes: they come up at
// the same moment, and know nothing of one another.
func TestHomesBeginElsewhere(t *testing.T) {
	starts := map[int]bool{}
	for k := range 10 {
		starts[(&ports{home: fmt.Sprintf("/home/user-%d/labs", k), name: DefaultName}).start()] = true
	}
	if len(starts) < 5 {
		t.Errorf("10 labs begin at %d places", len(starts))
	}
}

// TestLabsNeverShareASlot lets two labs that begin their search at the same
// place take slots at the same time.
func TestLabsNeverShareASlot(t *testing.T) {
	home := t.TempDir()
	first := openPorts(t, home, "first")
	labs := []*ports{first, openPorts(t, home, besideOf(home, first))}
	var wg sync.WaitGroup
	for _, p := range labs {
		wg.Go(func() {
			for k := range 8 {
				if _, err := p.of(kvOf(fmt.Sprintf("region-%d", k), 1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	taken := map[int]bool{}
	for _, p := range labs {
		for _, r := range p.ranges() {
			if taken[r.First] {
				t.Errorf("slot %d belongs to both", r.First)
			}
			taken[r.First] = true
		}
	}
	if len(taken) != 16 {
		t.Errorf("%d slots are taken, want 16", len(taken))
	}
}

func TestAnotherLabsDamageIsItsOwn(t *testing.T) {
	home := t.TempDir()
	mustWrite(t, journal.Path(filepath.Join(home, "broken")), "{nonsense\n{}\n")
	portsOf(t, openPorts(t, home, "x"), kvOf("north", 1))
}

func TestReleaseGivesBack(t *testing.T) {
	home := t.TempDir()
	p := openPorts(t, home, "x")
	one, two := kvOf("north", 1), kvOf("north", 2)
	was := portsOf(t, p, one)
	portsOf(t, p, two)
	for range 2 { // the second has nothing to do
		if err := p.release(one); err != nil {
			t.Fatal(err)
		}
	}
	if got := portsOf(t, p, kvOf("north", 3)); fmt.Sprint(got) != fmt.Sprint(was) {
		t.Errorf("the ports %v were not used again: %v", was, got)
	}
	if err := p.releaseRegion("north"); err != nil {
		t.Fatal(err)
	}
	if len(p.ranges()) != 0 || len(openPorts(t, home, "x").ranges()) != 0 {
		t.Errorf("slots are left: %v", p.ranges())
	}
}

// TestSlotOverflow takes more ports than a slot has.
func TestSlotOverflow(t *testing.T) {
	p := openPorts(t, t.TempDir(), "x")
	for n := 1; n <= slotSize/2; n++ { // three ports each
		portsOf(t, p, kvOf("north", n))
	}
	for _, r := range p.ranges() {
		if r.Region != "north" {
			t.Errorf("range %+v", r)
		}
	}
	if len(p.ranges()) < 2 {
		t.Errorf("%d ports in %d slots", len(p.used), len(p.ranges()))
	}
}

func TestEverySlotTaken(t *testing.T) {
	p := openPorts(t, t.TempDir(), "x")
	for k := range slots {
		p.slots[portFirst+k*slotSize] = "south"
	}
	_, err := p.of(kvOf("north", 1))
	if services.KindOf(err) != services.Exhausted || services.ProblemOf(err).Remedy == "" {
		t.Errorf("error %v", err)
	}
}

func TestDamagedPortEntries(t *testing.T) {
	for _, put := range []func(*journal.Journal) error{
		func(j *journal.Journal) error { return j.Put(journal.Slot, "not-a-number", slotData{"north"}) },
		func(j *journal.Journal) error { return j.Put(journal.Slot, "20000", "text") },
		func(j *journal.Journal) error { return j.Put(journal.Port, "x rpc", []int{1}) },
	} {
		j := testJournal(t, t.TempDir())
		if err := put(j); err != nil {
			t.Fatal(err)
		}
		if _, err := newPorts(os.TempDir(), "x", publicAddress, j); err == nil || !strings.HasPrefix(err.Error(), "journal: ") {
			t.Errorf("error %v", err)
		}
	}
}
