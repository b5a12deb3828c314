package registry

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/lookup/eureka"
)

// fetchable answers a fetch that may not be served now: above the limit, or
// before the registry has heard of what there is. It says whether it did.
func (s *Server) fetchable(w http.ResponseWriter, r *http.Request, full bool) bool {
	if s.throttle(w, r, full) {
		return false
	}
	if why := s.filling(); why != "" {
		// As the original answers: its clients try again, or the next server.
		refuse(w, services.Denied, "%s", why)
		return false
	}
	return true
}

func (s *Server) fetchAll(w http.ResponseWriter, r *http.Request, _ []string) {
	s.fetchRegions(w, r, "apps", (*store).full)
}

func (s *Server) fetchDelta(w http.ResponseWriter, r *http.Request, _ []string) {
	s.fetchRegions(w, r, "delta", (*store).delta)
}

// fetchRegions answers with what gather finds here and, where ?regions= names
// some, in the copies of their registries.
func (s *Server) fetchRegions(w http.ResponseWriter, r *http.Request, resource string, gather func(*store, time.Time) content) {
	if !s.fetchable(w, r, resource == "apps") {
		return
	}
	stores, name, err := s.regions(r)
	if err != nil {
		refuse(w, services.KindOf(err), "%v", err)
		return
	}
	var version uint64
	for _, st := range stores {
		version += st.current()
	}
	f := form(r)
	if s.unchanged(w, r, version, f) {
		return
	}
	a := s.cache.get(wanted{resource, name, f, wantsGzip(r)}, version, func() (content, []byte) {
		now := s.deps.Clock()
		c := gather(stores[0], now)
		for _, st := range stores[1:] {
			c = c.with(gather(st, now))
		}
		return c, c.encode(f, c.deltaVersion())
	})
	s.write(w, r, a, f)
}

// regions are the stores that ?regions= asks for, the own one first.
func (s *Server) regions(r *http.Request) ([]*store, string, error) {
	stores := []*store{s.store}
	if r.URL.RawQuery == "" {
		return stores, "", nil
	}
	asked := strings.Split(strings.ToLower(r.URL.Query().Get("regions")), ",")
	for i, a := range asked {
		asked[i] = strings.TrimSpace(a)
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	var names []string
	for _, a := range asked {
		if a == "" || strings.EqualFold(a, s.deps.Region) {
			continue
		}
		st, err := s.remotes.get(r.Context(), a)
		if err != nil {
			return nil, "", err
		}
		if st == nil { // nobody knows it: as the original, no more than that
			s.log.Debug("a fetch names a region that is not configured", "region", a)
			continue
		}
		stores, names = append(stores, st), append(names, a)
	}
	return stores, strings.Join(names, ","), nil
}

// fetchVIP answers with the instances of a VIP, plain or secure. That there is
// none is a list too: a client of the original that follows one VIP would keep
// its last list at an error, and go on calling what is gone.
func (s *Server) fetchVIP(w http.ResponseWriter, r *http.Request, path []string) {
	if !s.fetchable(w, r, false) {
		return
	}
	name, f := strings.ToLower(path[1]), form(r)
	has := (*eureka.Instance).HasVIP
	if path[0] == "svips" {
		has = (*eureka.Instance).HasSecureVIP
	}
	a := s.cache.get(wanted{path[0], name, f, wantsGzip(r)}, s.store.current(), func() (content, []byte) {
		c := s.store.only(func(i *eureka.Instance) bool { return has(i, name) })
		return c, c.encode(f, "-1") // of no use with deltas, as the original says
	})
	s.write(w, r, a, f)
}

func (s *Server) fetchApp(w http.ResponseWriter, r *http.Request, path []string) {
	if !s.fetchable(w, r, false) {
		return
	}
	name, f := strings.ToUpper(path[1]), form(r)
	a := s.cache.get(wanted{"app", name, f, wantsGzip(r)}, s.store.current(), func() (content, []byte) {
		c := s.store.application(name)
		return c, eureka.AppendRecord(nil, name, c.list, f)
	})
	if !a.found {
		refuse(w, services.NotFound, "no instance of %s", name)
		return
	}
	s.write(w, r, a, f)
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, a answer, f eureka.Form) {
	if s.unchanged(w, r, a.version, f) {
		return
	}
	zipped, h := wantsGzip(r), w.Header()
	h.Set("Etag", s.etag(a.version, f, zipped))
	h.Set("Vary", varies)
	h.Set(lookup.HeaderSince, strconv.FormatUint(a.since, 10))
	if zipped {
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", f.Media())
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	_, _ = w.Write(a.body) // the client is gone: nothing to tell it
}

// varies lists what of a request the form of its answer depends on.
const varies = "Accept, Accept-Encoding, " + headerAccept

// unchanged answers a fetch whose client has that version already, and says
// whether it did.
func (s *Server) unchanged(w http.ResponseWriter, r *http.Request, version uint64, f eureka.Form) bool {
	known := r.Header["If-None-Match"]
	if len(known) == 0 {
		return false
	}
	tag := s.etag(version, f, wantsGzip(r))
	if !match(known, tag) {
		return false
	}
	w.Header()["Etag"] = []string{tag}
	w.Header()["Vary"] = []string{varies}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// etag names the state of the registry and the form it is written in.
func (s *Server) etag(version uint64, f eureka.Form, zipped bool) string {
	b := append(make([]byte, 0, 64), '"')
	b = append(append(b, s.store.epoch...), '-')
	b = append(strconv.AppendUint(b, version, 10), '-')
	for _, mark := range []struct {
		on   bool
		with byte
	}{{f.XML, 'x'}, {!f.XML, 'j'}, {f.Compact, 'c'}, {zipped, 'z'}} {
		if mark.on {
			b = append(b, mark.with)
		}
	}
	return string(append(b, '"'))
}

// match says whether an If-None-Match names the tag.
func match(headers []string, tag string) bool {
	for _, h := range headers {
		if h == tag {
			return true
		}
		for t := range strings.SplitSeq(h, ",") {
			if t = strings.TrimPrefix(strings.TrimSpace(t), "W/"); t == tag || t == "*" {
				return true
			}
		}
	}
	return false
}

// instance answers /apps/APP/ID and /instances/ID.
func (s *Server) instance(w http.ResponseWriter, r *http.Request, path []string) {
	k := key{"", path[len(path)-1]}
	if path[0] == "apps" {
		k = pathKey(path)
	}
	in := s.store.find(k.app, k.id)
	if in == nil {
		refuse(w, services.NotFound, "no instance %s", k.id)
		return
	}
	writeInstance(w, r, http.StatusOK, in)
}
