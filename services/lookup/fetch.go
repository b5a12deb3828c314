package lookup

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

// fetchFastest is the shortest interval between two fetches, taken at start
// and while somebody waits for an instance; idle it doubles up to
// Timing.RegistryFetch. It is a floor of the machine, not a setting: with
// answers of "not modified" it costs well under a percent of a core.
const fetchFastest = 10 * time.Millisecond

// waitSlowest bounds the interval while somebody waits.
const waitSlowest = 4 * fetchFastest

// cache is what the fetch loop knows of the registry, between fetches.
type cache struct {
	records map[string]*record
	full    bool   // records came from a full fetch
	etag    string // of the last answer to a fetch of deltas
	epoch   string // the registry's incarnation
	version uint64 // of the registry that the copy holds; 0 if it has none
	// orphansUntil is when instances that a restarted registry does not know
	// yet are dropped.
	orphansUntil time.Time
	orphans      int
}

type record struct {
	inst Instance
	// orphan: known from before the registry restarted, not registered since.
	orphan bool
}

func (c *Client) fetchLoop(ctx context.Context) {
	interval, failing := fetchFastest, false
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last, fastUntil time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
			interval, fastUntil = fetchFastest, time.Now().Add(5*c.cfg.Timing.RegistryFetch.D())
			timer.Reset(max(0, interval-time.Since(last)))
			continue
		case <-timer.C:
		}
		err := c.fetch(ctx)
		last = time.Now()
		if ctx.Err() != nil {
			return
		}
		if failing != (err != nil) {
			failing = err != nil
			c.logFetch(err)
		}
		interval = min(interval*2, max(fetchFastest, c.cfg.Timing.RegistryFetch.D()))
		if c.waiters.Load() > 0 && last.Before(fastUntil) {
			interval = min(interval, waitSlowest)
		}
		timer.Reset(interval)
	}
}

func (c *Client) logFetch(err error) {
	if err != nil {
		c.log.Warn("registry does not answer; the last copy stays", "age", c.Age(), "err", err)
		return
	}
	c.log.Info("registry answers")
}

// fetch brings the copy up to date: by delta when there is a copy and the
// hash agrees afterwards, in full otherwise.
func (c *Client) fetch(ctx context.Context) error {
	if c.cache.full {
		ok, err := c.fetchDelta(ctx)
		if err != nil {
			return err
		}
		if ok {
			c.fetchDone()
			return nil
		}
		c.log.Debug("copy of the registry differs from its hash; fetching it in full")
	}
	if err := c.fetchFull(ctx); err != nil {
		return err
	}
	c.fetchDone()
	return nil
}

// noteFetched notes that the copy is of now.
func (c *Client) noteFetched() { c.fetched.Store(int64(max(1, time.Since(c.start)))) }

func (c *Client) fetchDone() {
	c.noteFetched()
	if c.cache.orphans > 0 && time.Now().After(c.cache.orphansUntil) {
		for id, r := range c.cache.records {
			if r.orphan {
				delete(c.cache.records, id)
			}
		}
		c.cache.orphans = 0
		c.publishRecords()
	}
}

// fetchDelta applies the registry's recent changes. It reports false when the
// copy then differs from the registry's hash.
func (c *Client) fetchDelta(ctx context.Context) (bool, error) {
	a, etag, err := c.get(ctx, "/apps/delta", c.cache.etag)
	if err != nil {
		return false, err
	}
	if a == nil { // not modified
		return true, nil
	}
	if a.epoch != c.cache.epoch || a.since > c.cache.version {
		return false, nil
	}
	changed := false
	for _, app := range a.apps.Regional {
		for i := range app.Instances {
			changed = c.cache.apply(&app.Instances[i]) || changed
		}
	}
	if changed {
		c.publishRecords()
	}
	if c.cache.hash() != a.apps.Hash {
		return false, nil
	}
	c.cache.etag, c.cache.version = etag, a.version()
	return true, nil
}

// apply puts one change in the copy and reports whether it differed.
func (k *cache) apply(w *eureka.Instance) bool {
	in := fromWire(w)
	old, known := k.records[in.ID]
	if known && old.orphan {
		k.orphans--
		old.orphan = false
	}
	if w.Action == eureka.ActionDeleted {
		delete(k.records, in.ID)
		return known
	}
	if known && old.inst.equal(in) {
		return false
	}
	k.records[in.ID] = &record{inst: in}
	return true
}

// hash is the consistency hash of what the registry has told us.
func (k *cache) hash() string {
	counts := map[string]int{}
	for _, r := range k.records {
		if !r.orphan {
			counts[r.inst.Status]++
		}
	}
	return eureka.Hash(counts)
}

// fetchFull replaces the copy. A registry that has restarted does not know
// every instance yet: those it lacks stay for as long as their leases would
// have lived, so that its restart empties no VIP.
func (c *Client) fetchFull(ctx context.Context) error {
	a, _, err := c.get(ctx, "/apps", "")
	if err != nil {
		return err
	}
	k := &c.cache
	fresh := make(map[string]*record, len(k.records))
	for _, app := range a.apps.Regional {
		for i := range app.Instances {
			in := fromWire(&app.Instances[i])
			fresh[in.ID] = &record{inst: in}
		}
	}
	now := time.Now()
	if k.epoch != "" && a.epoch != k.epoch {
		k.orphansUntil = now.Add(c.cfg.Timing.LeaseDuration.D())
	}
	k.orphans = 0
	if now.Before(k.orphansUntil) {
		for id, r := range k.records {
			if fresh[id] == nil {
				fresh[id] = &record{inst: r.inst, orphan: true}
				k.orphans++
			}
		}
	}
	k.records, k.full, k.epoch, k.etag, k.version = fresh, true, a.epoch, "", a.version()
	c.noteFetched() // before anybody finds an instance in it
	c.publishRecords()
	return nil
}

func (c *Client) publishRecords() {
	all := make([]Instance, 0, len(c.cache.records))
	for _, r := range c.cache.records {
		all = append(all, r.inst)
	}
	c.publish(all)
}

// answer is a copy or delta with the incarnation of the registry it is from.
type answer struct {
	apps  *eureka.Applications
	epoch string
	since uint64
}

// version is the registry's; a stock one may give none that means anything.
func (a *answer) version() uint64 {
	v, _ := strconv.ParseUint(a.apps.Version, 10, 64)
	return v
}

// get fetches a path; a nil answer means that it still has the given etag.
func (c *Client) get(ctx context.Context, path, etag string) (*answer, string, error) {
	var h http.Header
	if etag != "" {
		h = http.Header{"If-None-Match": {etag}}
	}
	resp, err := c.do(ctx, http.MethodGet, path, h, nil)
	if err != nil {
		return nil, "", err
	}
	switch resp.status {
	case http.StatusNotModified:
		return nil, etag, nil
	case http.StatusOK:
	default:
		return nil, "", resp.failure("fetch " + path)
	}
	apps, err := eureka.DecodeApplications(resp.body)
	if err != nil {
		return nil, "", err
	}
	// Absent from a stock registry: zero, and the hash has to do.
	since, _ := strconv.ParseUint(resp.header.Get(HeaderSince), 10, 64)
	return &answer{apps: apps, epoch: resp.header.Get(HeaderEpoch), since: since}, resp.header.Get("Etag"), nil
}
