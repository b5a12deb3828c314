package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/transcode/transcodepb"
	"github.com/flix-lab/flix/topology"
)

// Titles implements control.Engine: the catalogue by name, or what a query
// finds, best first.
func (l *Lab) Titles(ctx context.Context, query string) (control.Titles, error) {
	out := control.Titles{Titles: []control.Title{}}
	var (
		all  []sqldb.Title
		hits []services.TitleID
	)
	err := l.anyRegion(ctx, func(ctx context.Context, region string) error {
		db, err := l.sql(region)
		if err != nil {
			return err
		}
		if all, err = db.Titles(ctx); err != nil || query == "" {
			return err
		}
		idx, err := l.searchIndex(region)
		if err != nil {
			return err
		}
		hs, err := idx.Search(ctx, query, 20)
		hits = hits[:0]
		for _, h := range hs {
			hits = append(hits, h.ID)
		}
		return err
	})
	if err != nil {
		return out, err
	}
	if query == "" {
		for _, t := range all {
			out.Titles = append(out.Titles, controlTitle(t))
		}
		l.judgeLive(ctx, out.Titles)
		return out, nil
	}
	for _, id := range hits {
		if n := slices.IndexFunc(all, func(t sqldb.Title) bool { return t.ID == id }); n >= 0 {
			out.Titles = append(out.Titles, controlTitle(all[n]))
		}
	}
	l.judgeLive(ctx, out.Titles)
	return out, nil
}

// anyRegion asks the regions in order until one answers. An answer that says
// no is an answer.
func (l *Lab) anyRegion(ctx context.Context, ask func(ctx context.Context, region string) error) error {
	i, err := l.need()
	if err != nil {
		return err
	}
	for _, r := range i.Topology.RegionNames() {
		short, cancel := context.WithTimeout(ctx, askTime)
		err = ask(short, r)
		cancel()
		if err == nil || services.KindOf(err) != services.Unavailable || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func controlTitle(t sqldb.Title) control.Title {
	c := control.Title{
		ID: string(t.ID), Name: t.Name, Synopsis: t.Synopsis, Genres: t.Genres, Year: t.Year, Poster: t.Poster,
		DurationS: t.Duration.Seconds(), Rungs: []control.Rung{}, Countries: t.Countries,
		Live: t.LiveAt(time.Now()), Available: t.Available, MinSites: t.MinSites,
	}
	if c.Countries == nil {
		c.Countries = []string{}
	}
	for _, r := range t.Rungs {
		c.Rungs = append(c.Rungs, control.Rung(r))
	}
	return c
}

var (
	titleID   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	country   = regexp.MustCompile(`^[A-Z]{2}$`)
	notInID   = regexp.MustCompile(`[^a-z0-9]+`)
	maxTitle  = 120
	maxUpload = int64(8 << 30)
	maxSites  = 1 << 16 // more than a lab has
)

// CheckOriginal looks at everything about an original that can be wrong
// before anything is stored: the tools, the file, the name.
func CheckOriginal(_ Env, r control.AddTitleRequest) error {
	for _, tool := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(tool); err != nil {
			return services.Errorf(services.Unavailable, "title add: %s is not on PATH, so nothing can be transcoded", tool).WithReason(services.ReasonNoFFmpeg).WithRemedy("install it: apt-get install ffmpeg")
		}
	}
	st, err := os.Stat(r.File)
	switch {
	case err != nil:
		return &services.Error{Op: "title add", Kind: services.NotFound, Err: err, Remedy: "name a video file that can be read"}
	case !st.Mode().IsRegular():
		return services.Errorf(services.Invalid, "title add: %s is not a regular file", r.File)
	case st.Size() == 0 || st.Size() > maxUpload:
		return services.Errorf(services.Invalid, "title add: %s has %d bytes, want 1 to %d", r.File, st.Size(), maxUpload)
	case strings.TrimSpace(r.Name) == "" || utf8.RuneCountInString(r.Name) > maxTitle || !printable(r.Name):
		return services.Errorf(services.Invalid, "--name: %q is not a title's name", r.Name).WithRemedy("use 1 to %d characters, none of them a control character", maxTitle)
	case !utf8.ValidString(r.Synopsis):
		return services.Errorf(services.Invalid, "--synopsis: %q is not UTF-8", r.Synopsis)
	case r.MinSites < 0 || r.MinSites > maxSites:
		return services.Errorf(services.Invalid, "--min-sites: %d is not a number of sites", r.MinSites).WithRemedy("use 0, or as many sites as shall hold the title before it is played")
	case r.ID != "" && !titleID.MatchString(r.ID):
		return services.Errorf(services.Invalid, "--id: %q is not a title's id", r.ID).WithRemedy("use lower-case letters, digits and dashes, e.g. my-holiday")
	}
	for _, c := range r.Countries {
		if !country.MatchString(c) {
			return services.Errorf(services.Invalid, "--countries: %q is not a country code", c).WithRemedy("use ISO 3166-1 alpha-2 codes in capitals, e.g. US,GB")
		}
	}
	return nil
}

// printable says whether a text is UTF-8 without control characters, which a
// terminal that shows it would obey.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// idOf makes an id from a name.
func idOf(name string) string {
	return strings.Trim(notInID.ReplaceAllString(strings.ToLower(name), "-"), "-")
}

// AddTitle implements control.Engine: original to the object store, transcode,
// publish, fill, and a play that proves it.
func (l *Lab) AddTitle(ctx context.Context, r control.AddTitleRequest, p control.Progress) (control.AddTitleResult, error) {
	var res control.AddTitleResult
	if err := CheckOriginal(l.env, r); err != nil {
		return res, err
	}
	if r.ID == "" {
		r.ID = idOf(r.Name)
	}
	if !titleID.MatchString(r.ID) {
		return res, services.Errorf(services.Invalid, "--name: no id can be made of %q", r.Name).WithRemedy("give one: --id my-title")
	}
	if err := l.checkSites(r.MinSites); err != nil {
		return res, err
	}
	if err := l.fresh(ctx, r); err != nil {
		return res, err
	}
	region, err := l.transcodeRegion(ctx)
	if err != nil {
		return res, err
	}
	st := l.steps("title", p)
	job := &transcodepb.SubmitRequest{
		JobId: r.ID, TitleId: r.ID, Name: r.Name, Countries: r.Countries, Synopsis: r.Synopsis,
		OriginalKey: r.ID + "/" + filepath.Base(r.File), MinSites: uint32(r.MinSites),
	}
	if !r.Available.IsZero() {
		job.AvailableUnixMs = r.Available.UnixMilli()
	}
	err = st.do(ctx, "upload", func(ctx context.Context) (string, error) {
		return fmt.Sprintf("original stored in %s", region), l.uploadOriginal(ctx, region, r.File, job.GetOriginalKey())
	})
	if err != nil {
		return res, err
	}
	var done *transcodepb.Job
	if err = st.do(ctx, "encode", func(ctx context.Context) (string, error) {
		done, err = l.transcode(ctx, region, job, st)
		return "encoded, packaged, checked and published", err
	}); err != nil {
		return res, err
	}
	res.Job = controlJob(region, done)
	if err := l.addFinish(ctx, st, services.TitleID(r.ID), &res); err != nil {
		return res, err
	}
	res.Steps, res.MS = st.done, st.elapsed()
	return res, nil
}

// fresh refuses an id or name that the catalogue has already, unless it is the
// same job going on after a crash.
func (l *Lab) fresh(ctx context.Context, r control.AddTitleRequest) error {
	all, err := l.Titles(ctx, "")
	if err != nil {
		return err
	}
	unfinished, err := l.unfinished(r.ID)
	if err != nil {
		return err
	}
	for _, t := range all.Titles {
		if t.ID == r.ID && t.Name == r.Name && unfinished {
			continue
		}
		if t.ID == r.ID || strings.EqualFold(t.Name, r.Name) {
			return services.Errorf(services.Conflict, "title add: there is a title %q (%s) already", t.Name, t.ID).WithRemedy("choose another --name or --id")
		}
	}
	return nil
}

// unfinished says whether a title can only be there because an earlier add of
// it was cut short: it came with no catalogue, and no add of it was completed.
func (l *Lab) unfinished(id string) (bool, error) {
	if _, done := l.journal.Get(journal.Title, id); done {
		return false, nil
	}
	cat, err := fixtures.Catalogue()
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(cat.Titles, func(t fixtures.Title) bool { return t.ID == id }), nil
}

// transcodeRegion is the first region that is there and not evacuated.
func (l *Lab) transcodeRegion(ctx context.Context) (string, error) {
	i, err := l.need()
	if err != nil {
		return "", err
	}
	live, err := l.rt.List(ctx)
	if err != nil {
		return "", err
	}
	for _, r := range i.Topology.RegionNames() {
		have := map[topology.Role]bool{}
		for _, x := range live {
			if x.Spec.Region == r && x.State == runtime.Running {
				have[x.Spec.Role] = true
			}
		}
		if have[topology.RoleTranscode] && have[topology.RoleS3] && have[topology.RoleKV] && i.Evacuated[r] == "" {
			return r, nil
		}
	}
	return "", services.Errorf(services.Unavailable, "no region has a transcoder, an object store and a kv that run").WithRemedy("bring them up: flix lab up")
}

func (l *Lab) uploadOriginal(ctx context.Context, region, file, key string) error {
	store, err := l.s3(region)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.EnsureBucket(ctx, originalsBucket); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("title add: %w", err)
	}
	defer f.Close()
	_, err = store.PutFile(ctx, originalsBucket, key, f, "application/octet-stream")
	return err
}

// transcode submits the job, or finds the one an earlier try submitted, and
// follows it to its end.
func (l *Lab) transcode(ctx context.Context, region string, job *transcodepb.SubmitRequest, st *steps) (*transcodepb.Job, error) {
	c, err := l.transcoder(region)
	if err != nil {
		return nil, err
	}
	if _, err := c.Submit(ctx, job); err != nil {
		return nil, err
	}
	w, err := c.Watch(ctx, &transcodepb.WatchRequest{JobId: job.GetJobId()})
	if err != nil {
		return nil, err
	}
	for {
		j, err := w.Recv()
		if err == io.EOF {
			return nil, services.Errorf(services.Unavailable, "the transcoder of %s went away", region).WithRemedy("run the same command again: the job goes on")
		}
		if err != nil {
			return nil, err
		}
		st.tell("title.live", job.GetTitleId(), fmt.Sprintf("%s %.0f %%", j.GetState(), j.GetPercent()))
		switch j.GetState() {
		case "done":
			return j, nil
		case "failed":
			return nil, services.Errorf(services.Invalid, "the transcode failed: %s", j.GetError()).WithRemedy("name a whole file with a video stream that ffprobe can read; flix transcode status lists the jobs")
		}
	}
}

// addFinish fills the title everywhere, indexes it in every region and plays it,
// if it may be.
func (l *Lab) addFinish(ctx context.Context, st *steps, id services.TitleID, res *control.AddTitleResult) error {
	var row sqldb.Title
	if err := st.do(ctx, "index", func(ctx context.Context) (string, error) {
		t, err := l.awaitTitle(ctx, id)
		if err != nil {
			return "", err
		}
		res.Title = controlTitle(t)
		row = t
		return "searchable in every region", l.indexEverywhere(ctx, t)
	}); err != nil {
		return err
	}
	if err := st.do(ctx, "fill", l.awaitFill); err != nil {
		return err
	}
	fill, err := l.FillStatus(ctx)
	if err != nil {
		return err
	}
	for _, a := range fill.Appliances {
		if a.Assigned > 0 && a.Held == a.Assigned {
			res.Appliances++
		}
	}
	return st.do(ctx, "play", func(ctx context.Context) (string, error) {
		said, err := l.proveLive(ctx, &res.Title)
		if err != nil {
			return "", err
		}
		// From here on the title is there for good: a region that is added
		// later indexes it, and adding it again is refused.
		return said, l.journal.Put(journal.Title, string(id), row)
	})
}

// awaitTitle waits until the row is at the region that is asked.
func (l *Lab) awaitTitle(ctx context.Context, id services.TitleID) (sqldb.Title, error) {
	ctx, cancel := context.WithTimeout(ctx, seedTime)
	defer cancel()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		var t sqldb.Title
		err := l.anyRegion(ctx, func(ctx context.Context, region string) error {
			db, err := l.sql(region)
			if err != nil {
				return err
			}
			t, err = db.Title(ctx, id)
			return err
		})
		if err == nil {
			return t, nil
		}
		select {
		case <-ctx.Done():
			return t, err
		case <-time.After(wait):
		}
	}
}

// indexEverywhere adds a title to the search of every region that is up; one
// that is down gets it when it is started again.
func (l *Lab) indexEverywhere(ctx context.Context, t sqldb.Title) error {
	var g errgroup.Group
	hosts := l.rt.Hosts()
	for _, r := range l.current().Topology.RegionNames() {
		if !hosts[r] {
			continue
		}
		g.Go(func() error {
			idx, err := l.searchIndex(r)
			if err != nil {
				return err
			}
			short, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			return idx.Put(short, docOf(t))
		})
	}
	return g.Wait()
}

// playTitle plays the beginning of a title as a viewer in a country it is
// licensed for, once that can be: caches and replicas lag a little.
func (l *Lab) playTitle(ctx context.Context, t control.Title) error {
	near, ok := l.licensedRegion(t)
	if !ok {
		return nil // no client of this lab may watch it: nothing to prove
	}
	ctx, cancel := context.WithTimeout(ctx, 2*seedTime)
	defer cancel()
	v, err := l.viewer(ctx)
	if err != nil {
		return err
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		rep, err := v.Play(ctx, PlayOptions{Title: t.ID, Email: DemoEmail, Password: DemoPassword, Region: near, Seconds: canarySeconds, Speed: canarySpeed})
		if err == nil && rep.ChecksumOK {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = services.Errorf(services.Unavailable, "%s", strings.Join(rep.Errors, "; "))
			}
			return services.Wrap("it does not play", l.heldUp(context.WithoutCancel(ctx), err))
		case <-time.After(wait):
		}
	}
}

func (l *Lab) licensedRegion(t control.Title) (string, bool) {
	for _, r := range l.current().Topology.Regions {
		if len(t.Countries) == 0 || slices.Contains(t.Countries, r.Country) {
			return r.Name, true
		}
	}
	return "", false
}

// Jobs implements control.Engine: the transcode jobs of every region.
func (l *Lab) Jobs(ctx context.Context) ([]control.Job, error) {
	i, err := l.need()
	if err != nil {
		return nil, err
	}
	out := []control.Job{}
	seen := map[string]bool{}
	for _, r := range i.Topology.RegionNames() {
		c, err := l.transcoder(r)
		if err != nil {
			return nil, err
		}
		short, cancel := context.WithTimeout(ctx, askTime)
		rep, err := c.Status(short, &transcodepb.StatusRequest{})
		cancel()
		if err != nil {
			continue // its region is down; jobs are replicated to the others
		}
		for _, j := range rep.GetJobs() {
			if !seen[j.GetJobId()] {
				seen[j.GetJobId()] = true
				out = append(out, controlJob(r, j))
			}
		}
	}
	return out, nil
}

func controlJob(region string, j *transcodepb.Job) control.Job {
	out := control.Job{ID: j.GetJobId(), Title: j.GetTitleId(), Name: j.GetName(), State: j.GetState(), Percent: j.GetPercent(), Region: region, Error: j.GetError()}
	if ms := j.GetStartedUnixMs(); ms > 0 {
		out.Started = time.UnixMilli(ms).UTC()
	}
	if ms := j.GetEndedUnixMs(); ms > 0 {
		out.Ended = time.UnixMilli(ms).UTC()
	}
	for _, s := range j.GetSteps() {
		out.Steps = append(out.Steps, control.Step{Name: s.GetName(), MS: float64(s.GetMs())})
	}
	return out
}
