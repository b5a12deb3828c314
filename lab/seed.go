package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/signup"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/topology"
)

// labIterations of PBKDF2 for the lab's passwords: they protect nothing, and
// fleets of players sign in on the cores that run the whole planet.
const labIterations = 1000

// seedTime bounds one write of the seed; stores that just started need a moment.
const seedTime = 10 * time.Second

// sqlSeed is the journal's name for the relational store's contents.
const sqlSeed = "sql"

// unseeded lists the regions whose object stores do not hold the catalogue.
func (l *Lab) unseeded() []string {
	var fresh []string
	for _, r := range l.current().Topology.RegionNames() {
		if _, done := l.journal.Get(journal.Seed, r); !done {
			fresh = append(fresh, r)
		}
	}
	return fresh
}

// seed fills the stores of a new lab, or of a region that was added, as far as
// the first play needs: plans, members and titles in SQL, search documents
// unless the search comes later, and the most popular title; catalogue does the
// rest. Each write is idempotent, so a seed that was cut short is simply done
// again.
func (l *Lab) seed(ctx context.Context, later []runtime.Spec) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*seedTime)
	defer cancel()
	cat, err := fixtures.Catalogue()
	if err != nil {
		return "", err
	}
	regions, fresh := l.current().Topology.RegionNames(), l.unseeded()
	g, gctx := errgroup.WithContext(ctx)
	if _, done := l.journal.Get(journal.Seed, sqlSeed); !done {
		g.Go(func() error { return l.seedSQL(gctx, regions[0], cat) })
	}
	for _, r := range regions {
		if !slices.ContainsFunc(later, func(s runtime.Spec) bool { return s.Role == topology.RoleSearch && s.Region == r }) {
			g.Go(func() error { return l.seedSearch(gctx, r, cat) })
		}
	}
	if len(fresh) > 0 {
		g.Go(func() error { return l.seedMedia(gctx, fresh, regions, liveTitles(cat)[:1], len(cat.Titles)) })
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	if len(fresh) == 0 {
		return "the stores have their contents", nil
	}
	return fmt.Sprintf("%d titles, %d members and %d plans", len(cat.Titles), len(cat.Members), len(cat.Plans)), l.journal.Put(journal.Seed, sqlSeed, struct{}{})
}

// sown notes that the regions have their contents: the catalogue's files, and
// what was to start later, with the search's documents. Until then the next up
// looks after all of it again.
func (l *Lab) sown(regions []string) error {
	for _, r := range regions {
		if err := l.journal.Put(journal.Seed, r, struct{}{}); err != nil {
			return err
		}
	}
	return nil
}

// catalogue publishes the titles that the first play did not need.
func (l *Lab) catalogue(ctx context.Context) (string, error) {
	fresh := l.unseeded()
	if len(fresh) == 0 {
		return "the object stores have their files", nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*seedTime)
	defer cancel()
	cat, err := fixtures.Catalogue()
	if err != nil {
		return "", err
	}
	live := liveTitles(cat)
	if err := l.seedMedia(ctx, fresh, l.current().Topology.RegionNames(), live[1:], len(cat.Titles)-1); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d titles in the object stores of %s", len(live), strings.Join(fresh, ", ")), nil
}

func (l *Lab) seedSQL(ctx context.Context, region string, cat fixtures.Catalog) error {
	db, err := l.sql(region)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range cat.Plans {
		g.Go(func() error {
			return again(ctx, func(ctx context.Context) error { return db.PutPlan(ctx, planOf(p)) })
		})
	}
	for _, t := range cat.Titles {
		row := titleOf(t)
		g.Go(func() error {
			return again(ctx, func(ctx context.Context) error { return db.PutTitle(ctx, row) })
		})
	}
	for _, m := range cat.Members {
		g.Go(func() error {
			hash, err := signup.HashPassword(m.Password, labIterations)
			if err != nil {
				return err
			}
			now := time.Now().UTC()
			return again(ctx, func(ctx context.Context) error {
				_, err := db.CreateMember(ctx, sqldb.Member{ID: services.MemberID(m.ID), Email: m.Email, Name: m.Name, Plan: m.Plan, Country: m.Country, PasswordHash: hash, Created: now},
					sqldb.Entry{Key: "seed/" + m.ID, Member: services.MemberID(m.ID), Kind: "trial", At: now})
				return err
			})
		})
	}
	return g.Wait()
}

// again repeats a write while the store is out of reach: it may only just
// have started.
func again(ctx context.Context, f func(context.Context) error) error {
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := f(ctx)
		if err == nil || services.KindOf(err) != services.Unavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// seedSearch indexes the catalogue and whatever was added since.
func (l *Lab) seedSearch(ctx context.Context, region string, cat fixtures.Catalog) error {
	idx, err := l.searchIndex(region)
	if err != nil {
		return err
	}
	var docs []search.Doc
	seen := map[services.TitleID]bool{}
	for _, t := range cat.Titles {
		row := titleOf(t)
		docs = append(docs, docOf(row))
		seen[row.ID] = true
	}
	for _, e := range l.journal.List(journal.Title) {
		var t sqldb.Title
		if err := json.Unmarshal(e.Data, &t); err != nil {
			return fmt.Errorf("journal: title %s: %w", e.ID, err)
		}
		if !seen[t.ID] {
			docs = append(docs, docOf(t))
		}
	}
	return again(ctx, func(ctx context.Context) error { return idx.Put(ctx, docs...) })
}

func docOf(t sqldb.Title) search.Doc {
	return search.Doc{ID: t.ID, Name: t.Name, Synopsis: t.Synopsis, Genres: t.Genres, Countries: t.Countries}
}

// seedMedia puts real titles into the object stores of the fresh regions, most
// popular first, and publishes each with every region that has it as an origin.
// The first one's popularity is given; it falls by one from title to title.
func (l *Lab) seedMedia(ctx context.Context, fresh, all []string, titles []fixtures.Title, popularity int) error {
	for n, t := range titles {
		a, err := assetOf(t, float64(popularity-n), all)
		if err != nil {
			return err
		}
		g, gctx := errgroup.WithContext(ctx)
		for _, r := range fresh {
			g.Go(func() error { return l.upload(gctx, r, t.ID, a) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		if err := l.publish(ctx, all, a); err != nil {
			return err
		}
	}
	return nil
}

func liveTitles(cat fixtures.Catalog) []fixtures.Title {
	return slices.DeleteFunc(slices.Clone(cat.Titles), func(t fixtures.Title) bool { return !t.Live })
}

// canaryTitle is the most popular title that is licensed everywhere.
func canaryTitle() (string, error) {
	cat, err := fixtures.Catalogue()
	if err != nil {
		return "", err
	}
	for _, t := range liveTitles(cat) {
		if len(t.Countries) == 0 {
			return t.ID, nil
		}
	}
	return "", services.Errorf(services.Internal, "the catalogue has no live title that is licensed everywhere")
}

// assetOf describes the files of an embedded title.
func assetOf(t fixtures.Title, popularity float64, origins []string) (*cachecontrolpb.Asset, error) {
	files, err := fixtures.Media(t.ID)
	if err != nil {
		return nil, err
	}
	b, err := fs.ReadFile(files, "index.json")
	if err != nil {
		return nil, fmt.Errorf("title %s: %w", t.ID, err)
	}
	var x media.Index
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("title %s: index: %w", t.ID, err)
	}
	a := &cachecontrolpb.Asset{TitleId: t.ID, Version: x.Version, DurationMs: x.DurationMS, Origins: origins, Popularity: popularity, PublishedUnixMs: time.Now().UnixMilli(), Name: t.Name}
	tracks := map[string]media.Track{}
	for _, tr := range x.Tracks {
		tracks[tr.Path] = tr
	}
	err = fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		digest, err := media.NewDigest(bytes.NewReader(b), uint64(len(b)))
		if err != nil {
			return err
		}
		a.Files = append(a.Files, fileOf(path, digest, tracks))
		return nil
	})
	return a, err
}

// fileOf says what a file of a title is, by its name and the index.
func fileOf(path string, d media.Digest, tracks map[string]media.Track) *cachecontrolpb.File {
	f := &cachecontrolpb.File{Path: path, Size: d.Size, Sha256: d.SHA256, ChunkBytes: d.ChunkBytes, ChunkSha256: d.Chunks}
	if t, ok := tracks[path]; ok {
		f.Kind, f.Rung, f.Kbps, f.Width, f.Height, f.Codecs = t.Kind, t.ID, uint32(t.Kbps), uint32(t.Width), uint32(t.Height), t.Codecs
		return f
	}
	switch {
	case path == "index.json":
		f.Kind = "index"
	case strings.HasSuffix(path, ".mpd"):
		f.Kind = "manifest"
	case path == "master.m3u8":
		f.Kind = "hls"
	default: // the playlists that master.m3u8 names
		f.Kind = "playlist"
	}
	return f
}

func (l *Lab) upload(ctx context.Context, region, title string, a *cachecontrolpb.Asset) error {
	store, err := l.s3(region)
	if err != nil {
		return err
	}
	defer store.Close()
	files, err := fixtures.Media(title)
	if err != nil {
		return err
	}
	if err := again(ctx, func(ctx context.Context) error { return store.EnsureBucket(ctx, mediaBucket) }); err != nil {
		return err
	}
	for _, f := range a.GetFiles() {
		b, err := fs.ReadFile(files, f.GetPath())
		if err != nil {
			return err
		}
		key := fmt.Sprintf("titles/%s/%d/%s", title, a.GetVersion(), f.GetPath())
		if err := again(ctx, func(ctx context.Context) error {
			_, err := store.Put(ctx, mediaBucket, key, bytes.NewReader(b), int64(len(b)), contentType(f.GetPath()))
			return err
		}); err != nil {
			return fmt.Errorf("s3 of %s: %w", region, err)
		}
	}
	return nil
}

// contentType of a title's file.
func contentType(path string) string {
	switch {
	case strings.HasSuffix(path, ".mp4"):
		return "video/mp4"
	case strings.HasSuffix(path, ".mpd"):
		return "application/dash+xml"
	case strings.HasSuffix(path, ".m3u8"):
		return "application/vnd.apple.mpegurl"
	}
	return "application/json"
}

// publish makes an asset known at the first region's cache control that
// answers, which tells the others.
func (l *Lab) publish(ctx context.Context, regions []string, a *cachecontrolpb.Asset) error {
	cc, err := l.cacheControl(regions[0])
	if err != nil {
		return err
	}
	return again(ctx, func(ctx context.Context) error {
		_, err := cc.Publish(ctx, &cachecontrolpb.PublishRequest{Asset: a})
		return err
	})
}
