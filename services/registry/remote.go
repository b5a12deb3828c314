package registry

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup/eureka"
)

// remotes are copies of other regions' registries, for ?regions=. A copy is
// brought up to date when somebody asks and it is older than a fetch interval:
// a region that nobody asks about costs nothing.
type remotes struct {
	s    *Server
	http *http.Client

	mu sync.Mutex
	by map[string]*remote
}

// remote is the copy of one region's registry.
type remote struct {
	name string

	mu    sync.Mutex
	store *store // nil before the first copy
	etag  string
	at    time.Time // of the last answer
	tried time.Time
	err   error // of the last attempt
}

func newRemotes(s *Server) *remotes {
	return &remotes{s: s, by: map[string]*remote{}, http: &http.Client{
		Transport:     &http.Transport{DialContext: s.deps.Dial, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		Timeout:       peerTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (m *remotes) close() { m.http.CloseIdleConnections() }

// urls are the configured regions' registries, by name in lower case.
func (m *remotes) urls() map[string][]string {
	if m.s.deps.Remotes == nil {
		return nil
	}
	out := map[string][]string{}
	for name, us := range m.s.deps.Remotes() {
		out[strings.ToLower(name)] = us
	}
	return out
}

// get returns the copy of a region's registry, nil for a region that is not
// configured. It fails with Unavailable when there is no copy and none to be
// had; one that has grown old is better than none.
func (m *remotes) get(ctx context.Context, name string) (*store, error) {
	urls := m.urls()[name]
	if len(urls) == 0 {
		return nil, nil
	}
	m.mu.Lock()
	r := m.by[name]
	if r == nil {
		r = &remote{name: name}
		m.by[name] = r
	}
	m.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := m.s.deps.Clock()
	if now.Sub(r.tried) >= m.s.deps.Timing.RegistryFetch.D() {
		r.tried, r.err = now, nil
		for _, u := range urls {
			if r.err = m.update(ctx, r, apiBase(u)); r.err == nil {
				break
			}
		}
		if r.err != nil {
			m.s.log.Warn("another region's registry does not answer", "region", name, "err", r.err)
		}
	}
	if r.store == nil {
		return nil, &services.Error{Kind: services.Unavailable, Msg: "the registry of " + name + " does not answer", Err: r.err}
	}
	return r.store, nil
}

func (m *remotes) update(ctx context.Context, r *remote, base string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/apps", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", eureka.JSON)
	req.Header.Set(headerIdentity, "DefaultServer")
	if r.etag != "" {
		req.Header.Set("If-None-Match", r.etag)
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		r.at = m.s.deps.Clock()
		return nil
	default:
		return fmt.Errorf("%s answered %d", base, resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxCopy))
	if err != nil {
		return err
	}
	apps, err := eureka.DecodeApplications(b)
	if err != nil {
		return fmt.Errorf("%s: %w", base, err)
	}
	now := m.s.deps.Clock()
	if r.store == nil {
		r.store = newStore(m.s.deps.Timing, m.s.store.keep, now)
	}
	r.store.mirror(apps, now)
	r.etag, r.at = resp.Header.Get("Etag"), now
	return nil
}

// mirror makes the store hold what apps do, and notes what has changed.
func (s *store) mirror(apps *eureka.Applications, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[key]bool{}
	for _, app := range apps.Regional {
		for i := range app.Instances {
			in := &app.Instances[i]
			in.App = strings.ToUpper(in.App)
			if in.Lease == nil {
				in.Lease = &eureka.Lease{}
			}
			k := key{in.App, in.InstanceID}
			seen[k] = true
			old := s.leases[k]
			if old != nil && sameRecord(old.inst, in) {
				continue
			}
			in.Action = eureka.ActionModified
			if old == nil {
				in.Action = eureka.ActionAdded
			}
			s.place(&lease{key: k, inst: in, reported: in.Status, renewed: now})
			s.note(k, in, now)
		}
	}
	for k, l := range s.leases {
		if seen[k] {
			continue
		}
		s.unplace(l)
		in := l.copied()
		in.Action, in.LastUpdated = eureka.ActionDeleted, eureka.Millis(now.UnixMilli())
		s.note(k, in, now)
	}
	s.forget(now)
}

// sameRecord says whether a record is what it was, but for its renewals.
func sameRecord(a, b *eureka.Instance) bool {
	return a.LastUpdated == b.LastUpdated && a.LastDirty == b.LastDirty && a.Status == b.Status &&
		a.OverriddenStatus == b.OverriddenStatus && len(a.Metadata) == len(b.Metadata)
}

// RemoteInfo says how the copy of another region's registry does.
type RemoteInfo struct {
	Region string `json:"region"`
	// Copied: there is a copy, of Instances, AgeMS old.
	Copied    bool   `json:"copied"`
	Instances int    `json:"instances"`
	AgeMS     int64  `json:"age_ms"`
	Error     string `json:"error,omitempty"`
}

func (m *remotes) report() []RemoteInfo {
	out := []RemoteInfo{}
	now := m.s.deps.Clock()
	urls := m.urls()
	for _, name := range slices.Sorted(maps.Keys(urls)) {
		info := RemoteInfo{Region: name}
		m.mu.Lock()
		r := m.by[name]
		m.mu.Unlock()
		if r != nil {
			r.mu.Lock()
			if r.store != nil {
				info.Copied, info.Instances, info.AgeMS = true, len(r.store.full(now).list), now.Sub(r.at).Milliseconds()
			}
			if r.err != nil {
				info.Error = r.err.Error()
			}
			r.mu.Unlock()
		}
		out = append(out, info)
	}
	return out
}
