package discovery

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/sqldb"
)

// titles returns the catalogue by name: a fresh copy, the store's, a stale
// copy, or the last this instance saw.
func (s *Server) titles(ctx context.Context) (titles []sqldb.Title, stale bool, err error) {
	a, err := s.catalogue.Read(ctx, catalogueKey, s.d.Titles.Titles)
	if err != nil {
		if last := s.last.Load(); last != nil && ctx.Err() == nil {
			return *last, true, nil
		}
		return nil, false, err
	}
	s.last.Store(&a.Value)
	return a.Value, a.Stale, nil
}

// find returns one title. What the catalogue's copy does not have, or has as
// not live, is asked of the store: a title may have been published since.
func (s *Server) find(ctx context.Context, id string) (t sqldb.Title, stale bool, err error) {
	all, stale, err := s.titles(ctx)
	i := slices.IndexFunc(all, func(t sqldb.Title) bool { return string(t.ID) == id })
	if err == nil && i >= 0 && all[i].Live {
		return all[i], stale, nil
	}
	t, err = s.getTitle.Do(ctx, id)
	switch {
	case services.KindOf(err) == services.NotFound:
		return t, false, services.Errorf(services.NotFound, "there is no title %q", id).WithReason(services.ReasonNoTitle).WithRemedy("search for it by name")
	case err != nil && i >= 0:
		return all[i], true, nil
	}
	return t, false, err
}

// fetch asks the store for titles: one by its id, several with all the others.
func (s *Server) fetch(ctx context.Context, ids []string) (map[string]sqldb.Title, error) {
	got := make(map[string]sqldb.Title, len(ids))
	if len(ids) == 1 {
		t, err := s.d.Titles.Title(ctx, services.TitleID(ids[0]))
		switch {
		case err == nil:
			got[ids[0]] = t
		case services.KindOf(err) != services.NotFound:
			return nil, err
		}
		return got, nil
	}
	all, err := s.d.Titles.Titles(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if slices.Contains(ids, string(t.ID)) {
			got[string(t.ID)] = t
		}
	}
	return got, nil
}

func (s *Server) listTitles(r *http.Request, _ edge.Caller) (any, error) {
	all, stale, err := s.titles(r.Context())
	if err != nil {
		return nil, services.Wrap("titles", err)
	}
	reply := TitlesReply{Titles: make([]Title, 0, len(all)), Stale: stale}
	for _, t := range all {
		reply.Titles = append(reply.Titles, shown(t))
	}
	return reply, nil
}

func (s *Server) oneTitle(r *http.Request, _ edge.Caller) (any, error) {
	t, _, err := s.find(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, services.Wrap("title", err)
	}
	return shown(t), nil
}

// shown is a title as a client sees it; lists are never null in JSON.
func shown(t sqldb.Title) Title {
	rungs := make([]Rung, 0, len(t.Rungs))
	for _, r := range t.Rungs {
		rungs = append(rungs, Rung(r))
	}
	return Title{
		ID: string(t.ID), Name: t.Name, Synopsis: t.Synopsis, Genres: notNil(t.Genres), Poster: t.Poster,
		DurationS: t.Duration.Seconds(), Rungs: rungs, Countries: notNil(t.Countries), Live: t.LiveAt(time.Now()), Available: t.Available, Year: t.Year,
	}
}

func notNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
