package cachecontrol

import (
	"cmp"
	"slices"
	"time"
	"unique"

	"google.golang.org/protobuf/proto"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// appliance is what this cache control knows of one appliance. Guarded by the
// server's lock.
type appliance struct {
	id       string
	hello    *pb.Hello // without holdings
	report   *pb.Report
	titles   map[titleVersion]*heldTitle
	files    uint32
	bytes    uint64
	counter  uint64
	reported time.Time
	// changed is when a change was last seen, by the local clock.
	changed time.Time
	// session is its stream, nil when it is not connected here.
	session *session
	// hidden are titles it sheds and others can serve: they are not shown as
	// stored, so that steering sends their viewers elsewhere.
	hidden map[string]bool
	// seen is the hash of the store's copy of its state.
	seen uint64
	// announced is the prefixes of its hello, in order.
	announced announced
	// pace is how fast it filled of late.
	pace pace
	// state is the answer to Watch; nil when it has to be built. It is never
	// changed once built.
	state *pb.ApplianceState
}

type titleVersion struct {
	title   string
	version uint64
}

// stock is a stored file: its size, and where it came from if that is known.
type stock struct {
	size   uint64
	source pb.Source
	from   unique.Handle[string]
}

func stockOf(f *pb.HeldFile) stock {
	return stock{size: f.GetSize(), source: f.GetSource(), from: unique.Make(f.GetFrom())}
}

// heldTitle is the stored files of one title, by path.
type heldTitle struct {
	paths map[string]stock
	view  *pb.TitleHeld // nil when it has to be built; never changed
}

func (a *appliance) add(ref fileRef, st stock) {
	k := titleVersion{ref.title, ref.version}
	t := a.titles[k]
	if t == nil {
		t = &heldTitle{paths: map[string]stock{}}
		a.titles[k] = t
	}
	if old, ok := t.paths[ref.path]; ok {
		a.files, a.bytes = a.files-1, a.bytes-old.size
	}
	t.paths[ref.path] = st
	t.view = nil
	a.files, a.bytes = a.files+1, a.bytes+st.size
}

func (a *appliance) remove(ref fileRef) bool {
	k := titleVersion{ref.title, ref.version}
	t := a.titles[k]
	if t == nil {
		return false
	}
	st, ok := t.paths[ref.path]
	if !ok {
		return false
	}
	delete(t.paths, ref.path)
	t.view = nil
	if len(t.paths) == 0 {
		delete(a.titles, k)
	}
	a.files, a.bytes = a.files-1, a.bytes-st.size
	return true
}

func (a *appliance) setHoldings(h *pb.Holdings) {
	a.titles, a.files, a.bytes = map[titleVersion]*heldTitle{}, 0, 0
	for _, f := range h.GetFiles() {
		a.add(refOf(f), stockOf(f))
	}
}

// held lists everything stored.
func (a *appliance) held() []heldFile {
	out := make([]heldFile, 0, a.files)
	for k, t := range a.titles {
		for path, st := range t.paths {
			out = append(out, heldFile{ref: fileRef{k.title, k.version, path}, size: st.size})
		}
	}
	return out
}

// origin is where a stored file came from.
func (a *appliance) origin(ref fileRef) (pb.Source, string) {
	t := a.titles[titleVersion{ref.title, ref.version}]
	if t == nil {
		return 0, ""
	}
	st := t.paths[ref.path]
	if st.from == (unique.Handle[string]{}) {
		return st.source, ""
	}
	return st.source, st.from.Value()
}

// fit says whether an appliance may fill, and be filled from: viewers are not sent
// to one without routes, but the network to fill over is there.
func fit(r *pb.Report) bool { return r.GetHealthy() || r.GetUnrouted() }

// illness says why an appliance is not fit; "" if it is.
func illness(r *pb.Report) string {
	if fit(r) {
		return ""
	}
	return cmp.Or(r.GetReason(), "it does not say why")
}

// info is the appliance as the planner wants it.
func (a *appliance) info() nodeInfo {
	return nodeInfo{
		id: a.id, region: a.hello.GetRegion(), site: a.hello.GetSite(), kind: topology.SiteKind(a.hello.GetKind()),
		capacity: a.hello.GetCapacityBytes(), bandwidth: a.hello.GetBandwidthBps(), fill: cmp.Or(a.hello.GetFillBps(), a.hello.GetBandwidthBps()), fillURL: a.hello.GetFillUrl(),
		ill: illness(a.report), full: a.report.GetFull(), connected: a.session != nil,
	}
}

// view is the appliance's state for others; only titles that changed since the
// last view are built again.
func (a *appliance) view() *pb.ApplianceState {
	if a.state != nil {
		return a.state
	}
	titles := make([]*pb.TitleHeld, 0, len(a.titles))
	for k, t := range a.titles {
		if a.hidden[k.title] {
			continue
		}
		if t.view == nil {
			t.view = &pb.TitleHeld{TitleId: k.title, Version: k.version, Paths: make([]string, 0, len(t.paths))}
			for p := range t.paths {
				t.view.Paths = append(t.view.Paths, p)
			}
			slices.Sort(t.view.Paths)
		}
		titles = append(titles, t.view)
	}
	slices.SortFunc(titles, func(a, b *pb.TitleHeld) int {
		return cmp.Or(cmp.Compare(a.GetTitleId(), b.GetTitleId()), cmp.Compare(a.GetVersion(), b.GetVersion()))
	})
	a.state = &pb.ApplianceState{
		Hello: a.hello, Report: a.report, Titles: titles,
		ReportedUnixMs: a.reported.UnixMilli(), Counter: a.counter, HeldFiles: a.files, HeldBytes: a.bytes,
	}
	return a.state
}

// adopt takes another cache control's view of the appliance. File sizes are
// not part of it and stay unknown, but the sums are.
func (a *appliance) adopt(st *pb.ApplianceState, now time.Time) {
	a.hello, a.report, a.state = st.GetHello(), st.GetReport(), st
	if a.report == nil {
		a.report = &pb.Report{}
	}
	a.titles = make(map[titleVersion]*heldTitle, len(st.GetTitles()))
	for _, t := range st.GetTitles() {
		h := &heldTitle{paths: make(map[string]stock, len(t.GetPaths())), view: t}
		for _, p := range t.GetPaths() {
			h.paths[p] = stock{}
		}
		a.titles[titleVersion{t.GetTitleId(), t.GetVersion()}] = h
	}
	a.files, a.bytes = st.GetHeldFiles(), st.GetHeldBytes()
	a.pace.see(a.report.GetFilled(), time.UnixMilli(st.GetReportedUnixMs()))
	a.counter, a.reported, a.changed = st.GetCounter(), time.UnixMilli(st.GetReportedUnixMs()), now
}

// withFilled returns the report with other fill counters; reports that were
// shown to others are never changed in place.
func withFilled(r *pb.Report, filled *pb.FillBytes) *pb.Report {
	if filled == nil {
		return r
	}
	c := proto.CloneOf(r)
	c.Filled = filled
	return c
}
