package steering_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	pb "github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/telemetry"
)

func TestOrder(t *testing.T) {
	f := start(t, patience)
	f.control.tell(planet()...)
	r := f.until(&pb.RankRequest{}, offers(6))
	got := r.GetCandidates()
	sites := make([]string, len(got))
	ranks := make([]uint32, len(got))
	for i, c := range got {
		sites[i], ranks[i] = c.GetSite(), c.GetRank()
	}
	wantSites := []string{"us-east-isp-1", "us-east-isp-1", "us-east-ix", "us-east-ix", "us-west-ix", "eu-west-ix"}
	if !slices.Equal(sites, wantSites) || !slices.Equal(ranks, []uint32{0, 0, 1, 1, 2, 3}) {
		t.Errorf("sites %v, ranks %v", sites, ranks)
	}
	if c := got[0]; c.GetKind() != "isp" || c.GetRegion() != "us-east" || c.GetUrl() == "" || got[4].GetKind() != "exchange" {
		t.Errorf("first candidate %v", c)
	}
	if r.GetVersion() != 1 {
		t.Errorf("version %d", r.GetVersion())
	}
	// The other family, a network that nobody announces, and a mapped address.
	for ip, first := range map[string]string{
		"2001:db8::1": "us-east-isp-1", "203.0.113.9": "us-east-ix", "198.18.130.1": "eu-west-ix", "::ffff:198.18.0.9": "us-east-isp-1",
	} {
		r, err := f.rank(&pb.RankRequest{ClientIp: ip})
		if err != nil || r.GetCandidates()[0].GetSite() != first {
			t.Errorf("%s: %v, %v, want %s first", ip, ids(r), err, first)
		}
	}
	if r, err := f.rank(&pb.RankRequest{Max: 3}); err != nil || len(r.GetCandidates()) != 3 {
		t.Errorf("max 3: %v, %v", ids(r), err)
	}
	if _, err := f.rank(&pb.RankRequest{ClientIp: "nobody"}); services.KindOf(err) != services.Invalid {
		t.Errorf("client nobody: %v", err)
	}
}

func TestLongestPrefixFirst(t *testing.T) {
	f := start(t, patience)
	exact := ispBox(3)
	exact.prefixes = []string{"198.18.0.0/24"}
	f.control.tell(append(planet(), exact.event())...)
	r := f.until(&pb.RankRequest{}, offers(7))
	if ids(r)[0] != exact.id || r.GetCandidates()[1].GetRank() != 1 {
		t.Errorf("%v", r.GetCandidates())
	}
}

func TestFilters(t *testing.T) {
	f := start(t, patience)
	sick, old, part, gone := ispBox(1), ispBox(2), ispBox(3), ispBox(4)
	sick.sick = "disk is slow"
	old.reported = time.Now().Add(-time.Hour)
	part.paths = whole[:1]
	f.control.tell(asset(1), sick.event(), old.event(), part.event(), gone.event(), ixBox("us-east", 1, "198.18.0.0/20").event(), ixBox("us-east", 2, "198.18.0.0/20").event())
	f.until(&pb.RankRequest{}, offers(3))
	f.control.tell(&ccpb.WatchEvent{Gone: gone.id})
	f.until(&pb.RankRequest{}, offers(2))
	broken := ixBox("us-east", 2).id
	r := f.until(&pb.RankRequest{Explain: true, Exclude: []string{broken}}, offers(1))
	want := map[string]string{sick.id: "healthy", old.id: "fresh", part.id: "content", broken: "exclude"}
	for _, d := range r.GetDecisions() {
		// The routes of what is gone are taken out a moment after its content.
		if d.GetStruck() && d.GetAppliance() != gone.id {
			if want[d.GetAppliance()] != d.GetFilter() || d.GetWhy() == "" {
				t.Errorf("struck: %v", d)
			}
			delete(want, d.GetAppliance())
		}
	}
	if len(want) > 0 {
		t.Errorf("no decision recorded for %v", want)
	}
	if n := counter(t, f.tel, "steering_misses_total", "cause", "H"); n == 0 {
		t.Error("no miss was blamed on health")
	}
	// What is missing arrives, the sick recovers, the old reports again.
	part.paths, part.counter = whole, 2
	sick.sick, sick.counter = "", 2
	old.reported, old.counter = time.Time{}, 2
	f.control.tell(part.event(), sick.event(), old.event())
	f.until(&pb.RankRequest{}, offers(5))
}

// Whoever asks by turns is told to come back soon while somebody near is not well.
func TestUnsettled(t *testing.T) {
	f := start(t, patience)
	is := func(unsettled bool) func(*pb.RankReply, error) error {
		return func(r *pb.RankReply, err error) error {
			if err == nil && r.GetUnsettled() != unsettled {
				err = fmt.Errorf("unsettled %v, want %v", r.GetUnsettled(), unsettled)
			}
			return err
		}
	}
	one, two := ispBox(1), ispBox(2)
	f.control.tell(asset(1), one.event(), two.event())
	f.until(&pb.RankRequest{}, is(false))
	two.sick, two.counter = "disk is slow", 2
	f.control.tell(two.event())
	f.until(&pb.RankRequest{}, is(true))
	f.until(&pb.RankRequest{Explain: true}, is(true))
	two.sick, two.counter = "", 3
	f.control.tell(two.event())
	f.until(&pb.RankRequest{}, is(false))
	one.load, one.counter = 1, 2
	f.control.tell(one.event())
	f.until(&pb.RankRequest{}, is(true))
}

// Nor is an order settled by which the nearest site serves nobody, since it may soon
// hold the title.
func TestUnsettledWhileTheNearestLackTheTitle(t *testing.T) {
	f := start(t, patience)
	part := ispBox(1)
	part.paths = whole[:1]
	f.control.tell(asset(1), part.event(), ixBox("us-east", 1, "198.18.0.0/20").event())
	if r := f.until(&pb.RankRequest{}, offers(1)); !r.GetUnsettled() {
		t.Errorf("settled: %v", r)
	}
	part.paths, part.counter = whole, 2
	f.control.tell(part.event())
	if r := f.until(&pb.RankRequest{}, offers(2)); r.GetUnsettled() {
		t.Errorf("unsettled: %v", r)
	}
}

// However many are asked for, ten are what a client is told of. A zone of its
// address is nobody's business but its own.
func TestAtMostTen(t *testing.T) {
	f := start(t, patience)
	events := []*ccpb.WatchEvent{asset(1)}
	for n := range most + 2 {
		events = append(events, ispBox(n+1).event())
	}
	f.control.tell(events...)
	for asked, want := range map[uint32]int{0: most, 3: 3, most: most, most + 1: most, 1 << 31: most} {
		f.until(&pb.RankRequest{Max: asked}, offers(want))
		f.until(&pb.RankRequest{Max: asked, ClientIp: "2001:db8::7%eth0", Explain: true}, offers(want))
	}
}

const most = 10

// A title that cache control withholds is refused with what it waits for, until
// it is told of.
func TestTitleThatIsNotLive(t *testing.T) {
	f := start(t, patience)
	f.control.tell(ispBox(1).event(), &ccpb.WatchEvent{Waiting: &ccpb.WaitingTitle{TitleId: title, MinSites: 3}})
	says := func(text string) func(*pb.RankReply, error) error {
		return func(r *pb.RankReply, err error) error {
			if bad := fails(services.Conflict, services.ReasonNotLive)(r, err); bad != nil || strings.Contains(err.Error(), text) {
				return bad
			}
			return fmt.Errorf("%w does not say %q", err, text)
		}
	}
	f.until(&pb.RankRequest{}, says("before 3 sites hold all of it"))
	f.control.tell(&ccpb.WatchEvent{Waiting: &ccpb.WaitingTitle{TitleId: title, AvailableUnixMs: time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli()}})
	f.until(&pb.RankRequest{}, says("its date is 2100-01-02T03:04:05Z"))
	if n := counter(t, f.tel, "steering_decisions_total", "result", "not_live"); n == 0 {
		t.Error("the refusals are not counted")
	}
	f.control.tell(asset(1))
	f.until(&pb.RankRequest{}, offers(1))
}

func TestNoReplica(t *testing.T) {
	f := start(t, patience)
	empty := ispBox(1)
	empty.paths = nil
	f.control.tell(asset(1), empty.event())
	f.until(&pb.RankRequest{}, fails(services.NotFound, services.ReasonNoReplica))
	f.until(&pb.RankRequest{TitleId: "tt-unheard-of"}, fails(services.NotFound, services.ReasonNoReplica))
	full := ispBox(1)
	full.counter = 2
	f.control.tell(full.event())
	f.until(&pb.RankRequest{}, offers(1))
	// A newer version is held by nobody until it has been filled.
	f.control.tell(asset(2))
	f.until(&pb.RankRequest{}, fails(services.NotFound, services.ReasonNoReplica))
	full.version, full.counter = 2, 3
	f.control.tell(full.event())
	if r := f.until(&pb.RankRequest{}, offers(1)); r.GetVersion() != 2 {
		t.Errorf("version %d, want 2", r.GetVersion())
	}
}

// A client that found broken whoever may serve is offered them again: it has
// nothing better, and its refusals are no failure of steering. One that is sick
// stays out.
func TestExcludingEverybodyExcludesNobody(t *testing.T) {
	f := start(t, patience)
	first, second, sick := ispBox(1), ispBox(2), ispBox(3)
	sick.sick = "disk is slow"
	f.control.tell(asset(1), first.event(), second.event(), sick.event())
	f.until(&pb.RankRequest{}, offers(2))
	all := []string{first.id, second.id, sick.id}
	r := f.until(&pb.RankRequest{Exclude: all, Explain: true}, offers(2))
	for _, d := range r.GetDecisions() {
		if d.GetStruck() != (d.GetAppliance() == sick.id && d.GetFilter() == "healthy") {
			t.Errorf("%v", d)
		}
		if d.GetFilter() == "exclude" && d.GetWhy() == "" {
			t.Errorf("nothing is said of the exclusion: %v", d)
		}
	}
	if n := counter(t, f.tel, "steering_decisions_total", "result", "excluded"); n == 0 {
		t.Error("the decision is not counted as one against the client's word")
	}
	// While one is left it is the only one.
	if r := f.until(&pb.RankRequest{Exclude: []string{first.id}}, offers(1)); ids(r)[0] != second.id {
		t.Errorf("%v, want %s alone", ids(r), second.id)
	}
	first.sick, first.counter, second.sick, second.counter = "disk is slow", 2, "disk is slow", 2
	f.control.tell(first.event(), second.event())
	f.until(&pb.RankRequest{Exclude: all}, fails(services.Unavailable, services.ReasonNoReplica))
}

// Cache control hides the titles that an appliance sheds; one that sheds all it
// holds gets no viewer.
func TestAnApplianceThatShedsEverythingIsSpared(t *testing.T) {
	f := start(t, patience)
	tired, other := ispBox(1), ispBox(2)
	f.control.tell(asset(1), tired.event(), other.event())
	f.until(&pb.RankRequest{}, offers(2))
	tired.counter = 2
	hidden := tired.event()
	hidden.State.Titles = nil // its files are still counted
	f.control.tell(hidden)
	if r := f.until(&pb.RankRequest{}, offers(1)); ids(r)[0] != other.id {
		t.Errorf("%v, want %s", ids(r), other.id)
	}
}

// Old reports that cache control repeats do not make an appliance fresh.
func TestStaleReport(t *testing.T) {
	f := start(t, 300*time.Millisecond)
	dead, live := ispBox(1), ispBox(2)
	f.control.tell(asset(1))
	f.until(&pb.RankRequest{}, func(r *pb.RankReply, err error) error {
		bad := offers(2)(r, err)
		if bad != nil { // they report until both are offered
			dead.counter, dead.reported = dead.counter+1, time.Now()
			live.counter++
			f.control.tell(live.event(), dead.event())
		}
		return bad
	})
	f.until(&pb.RankRequest{}, func(r *pb.RankReply, err error) error {
		live.counter++
		f.control.tell(live.event(), dead.event())
		if err == nil && slices.Equal(ids(r), []string{live.id}) {
			return nil
		}
		return errors.Join(errors.New("the dead is still offered"), err)
	})
}

// TestReportsHaveTimeToCome knows only old reports when cache control comes in
// reach: appliances are offered all the same until they had the time to report,
// and the answer is said to be stale.
func TestReportsHaveTimeToCome(t *testing.T) {
	f := start(t, patience)
	old := ispBox(1)
	old.reported = time.Now().Add(-time.Hour)
	f.control.tell(asset(1), old.event())
	f.until(&pb.RankRequest{}, offers(1))
	if n := counter(f.t, f.tel, "steering_decisions_total", "result", "stale"); n == 0 {
		t.Error("the answer is not said to be stale")
	}
	fresh := ispBox(2)
	fresh.counter = 2
	f.control.tell(fresh.event())
	f.until(&pb.RankRequest{}, func(r *pb.RankReply, err error) error {
		if err == nil && !slices.Equal(ids(r), []string{fresh.id}) {
			err = fmt.Errorf("%v, want the fresh one alone", ids(r))
		}
		return err
	})
}

// A cache control that is away takes nothing with it, and one that comes back
// with an empty memory neither.
func TestCacheControlAway(t *testing.T) {
	f := start(t, 250*time.Millisecond)
	var told uint64
	f.until(&pb.RankRequest{}, func(r *pb.RankReply, err error) error {
		bad := offers(6)(r, err)
		if bad != nil { // they report until all are offered
			told++
			events := planet()
			for _, ev := range events {
				if ev.State != nil {
					ev.State.Counter = told
				}
			}
			f.control.tell(events...)
		}
		return bad
	})
	f.srv.Stop()
	f.until(&pb.RankRequest{Explain: true}, func(r *pb.RankReply, err error) error {
		if err == nil {
			err = offers(6)(r, err)
		}
		if err == nil && counter(f.t, f.tel, "steering_decisions_total", "result", "stale") == 0 {
			err = errors.New("the answer is not yet said to be stale")
		}
		return err
	})
	f.control.forget()
	before := f.control.watches()
	f.serveControl()
	f.until(&pb.RankRequest{}, func(*pb.RankReply, error) error {
		if f.control.watches() == before {
			return errors.New("not connected again")
		}
		return nil
	})
	again := ispBox(1)
	again.counter = told
	f.until(&pb.RankRequest{}, func(r *pb.RankReply, err error) error {
		bad := offers(1)(r, err)
		if bad != nil {
			again.counter++
			f.control.tell(again.event())
		}
		return bad
	})
}

func TestNotReady(t *testing.T) {
	f := start(t, patience)
	f.srv.Stop()
	_, err := f.rank(&pb.RankRequest{})
	if k := services.KindOf(err); k != services.Unavailable && k != services.NotFound {
		t.Errorf("before the first snapshot: %v", err)
	}
}

// Clients spread over a site, and each stays with its appliance.
func TestSpread(t *testing.T) {
	f := start(t, patience)
	events := []*ccpb.WatchEvent{asset(1)}
	for n := range 4 {
		events = append(events, ispBox(n+1).event())
	}
	f.control.tell(events...)
	f.until(&pb.RankRequest{}, offers(4))
	first := map[string]int{}
	for c := range 400 {
		ip := fmt.Sprintf("198.18.%d.%d", c/100, c%100+1)
		a, err := f.rank(&pb.RankRequest{ClientIp: ip})
		if err != nil {
			t.Fatal(err)
		}
		b, err := f.rank(&pb.RankRequest{ClientIp: ip, Exclude: ids(a)[3:]})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(ids(a)[:3], ids(b)) {
			t.Fatalf("%s: %v, then %v without the last", ip, ids(a), ids(b))
		}
		first[ids(a)[0]]++
	}
	for id, n := range first {
		if n < 70 || n > 130 {
			t.Errorf("%s is first for %d of 400 clients, want about 100", id, n)
		}
	}
}

func counter(t *testing.T, tel *telemetry.Telemetry, name, label, value string) float64 {
	t.Helper()
	families, err := tel.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
