package control

import (
	"context"
	"net/http"
	"net/url"

	"github.com/flix-lab/flix/services/evcache"
)

// CacheEngine is what the daemon can do with the regions' EVCache.
type CacheEngine interface {
	CacheStatus(ctx context.Context, region string) (CacheStatus, error)
	CacheGet(ctx context.Context, r CacheKey) (CacheItem, error)
	CacheSet(ctx context.Context, r CacheSetRequest) (CacheWritten, error)
	CacheDelete(ctx context.Context, r CacheKey) (CacheWritten, error)
	CacheMode(ctx context.Context, r CacheModeRequest) (CacheStatus, error)
	CacheWarm(ctx context.Context, r CacheWarmRequest, p Progress) (CacheWarmed, error)
	CacheCheck(ctx context.Context, r CacheCheckRequest) (CacheChecked, error)
}

// CacheStatus is the JSON of "flix cache status".
type CacheStatus struct {
	Regions []CacheRegion `json:"regions"`
}

// CacheRegion is one region's cache.
type CacheRegion struct {
	Region string `json:"region"`
	// Replication is what the services tell other regions of their writes.
	Replication string      `json:"replication"`
	Zones       []CacheZone `json:"zones"`
}

// CacheZone is one zone's servers together.
type CacheZone struct {
	Zone string `json:"zone"`
	// Mode is read-write, write-only or read-only.
	Mode    string        `json:"mode"`
	Servers []CacheServer `json:"servers"`
	Items   int64         `json:"items"`
	Bytes   int64         `json:"bytes"`
	// HitRatio of the zone's reads since its servers started, 0 to 1.
	HitRatio float64 `json:"hit_ratio"`
	// Warming is set while the zone is filled from another.
	Warming *evcache.Warmed `json:"warming,omitempty"`
}

// CacheServer is one memcached.
type CacheServer struct {
	Instance string `json:"instance"`
	Address  string `json:"address"`
	Up       bool   `json:"up"`
	Error    string `json:"error,omitempty"`
	// What it says of itself in "stats".
	Version     string `json:"version,omitempty"`
	UptimeS     int64  `json:"uptime_s"`
	Items       int64  `json:"items"`
	Bytes       int64  `json:"bytes"`
	LimitBytes  int64  `json:"limit_bytes"`
	Hits        int64  `json:"hits"`
	Misses      int64  `json:"misses"`
	Sets        int64  `json:"sets"`
	Evictions   int64  `json:"evictions"`
	Connections int64  `json:"connections"`
}

// CacheKey names an item.
type CacheKey struct {
	// Region; "" for the lab's first. Zone; "" for wherever it is found.
	Region string `json:"region,omitempty"`
	Zone   string `json:"zone,omitempty"`
	// App is the application's prefix, Key the key without it.
	App string `json:"app"`
	Key string `json:"key"`
}

// CacheItem is the JSON of "flix cache get".
type CacheItem struct {
	Region string `json:"region"`
	// Zone it was read from.
	Zone string `json:"zone"`
	// Key is the canonical one, "app:key".
	Key string `json:"key"`
	// Kind is the type that its writer gave it: string, bytes, long, …
	Kind string `json:"kind"`
	// Text is the value if it is a text or a number; Value is it in any case
	// (base64 in JSON).
	Text  string `json:"text"`
	Value []byte `json:"value"`
	Bytes int    `json:"bytes"`
	// StoredBytes is what it takes in the cache.
	StoredBytes int  `json:"stored_bytes"`
	Compressed  bool `json:"compressed"`
	Chunks      int  `json:"chunks"`
	Hashed      bool `json:"hashed"`
}

// CacheSetRequest stores an item.
type CacheSetRequest struct {
	CacheKey
	Value []byte `json:"value"`
	// Binary values are a byte[] to a client in Java, others a String.
	Binary bool `json:"binary,omitempty"`
	// TTLMS is how long it lives, in milliseconds; 0 until it is evicted.
	TTLMS float64 `json:"ttl_ms"`
	// Policy says how many zones are waited for, Replication what other regions
	// are told. "" for the client's own.
	Policy      string `json:"policy,omitempty"`
	Replication string `json:"replication,omitempty"`
}

// CacheWritten is the JSON of "flix cache set" and "flix cache delete".
type CacheWritten struct {
	Region string `json:"region"`
	Key    string `json:"key"`
	// Zones that have taken it. Failed are the others that are written: they are
	// made good when they answer again.
	Zones  []string         `json:"zones"`
	Failed []CacheZoneError `json:"failed,omitempty"`
	Bytes  int              `json:"bytes"`
	// Policy it waited for, Replication to other regions.
	Policy      string  `json:"policy"`
	Replication string  `json:"replication"`
	MS          float64 `json:"ms"`
}

// CacheZoneError is why a zone did not take a write.
type CacheZoneError struct {
	Zone  string `json:"zone"`
	Error string `json:"error"`
}

// CacheModeRequest switches zones and replication. What is "" stays.
type CacheModeRequest struct {
	Region      string `json:"region,omitempty"`
	Zone        string `json:"zone,omitempty"`
	Mode        string `json:"mode,omitempty"`
	Replication string `json:"replication,omitempty"`
}

// CacheWarmRequest fills a zone from another.
type CacheWarmRequest struct {
	Region string `json:"region,omitempty"`
	Zone   string `json:"zone"`
	From   string `json:"from,omitempty"`
	// PerSecond bounds the items copied in a second; 0: no bound.
	PerSecond int `json:"per_second,omitempty"`
	// KeepMode leaves the zone's mode alone; otherwise it is write-only until it
	// is warm.
	KeepMode bool `json:"keep_mode,omitempty"`
}

// CacheWarmed is the JSON of "flix cache warm".
type CacheWarmed struct {
	Region string `json:"region"`
	evcache.Warmed
	Percent float64 `json:"percent"`
	MS      float64 `json:"ms"`
}

// CacheCheckRequest compares the zones of a region.
type CacheCheckRequest struct {
	// Region; "" for every one.
	Region string `json:"region,omitempty"`
	Sample int    `json:"sample"`
	Repair bool   `json:"repair,omitempty"`
}

// CacheChecked is the JSON of "flix cache check".
type CacheChecked struct {
	// Equal says that every zone was compared and no difference found anywhere.
	Equal   bool                 `json:"equal"`
	Regions []CacheRegionChecked `json:"regions"`
	MS      float64              `json:"ms"`
}

// CacheRegionChecked is what was found in one region.
type CacheRegionChecked struct {
	Region string `json:"region"`
	evcache.Checked
}

func cacheRoutes(m *http.ServeMux, e CacheEngine) {
	m.HandleFunc("GET /v1/cache", func(w http.ResponseWriter, r *http.Request) {
		get(func(ctx context.Context) (CacheStatus, error) { return e.CacheStatus(ctx, r.URL.Query().Get("region")) })(w, r)
	})
	m.HandleFunc("POST /v1/cache/get", call(e.CacheGet))
	m.HandleFunc("POST /v1/cache/set", sized(maxCacheRequest, e.CacheSet))
	m.HandleFunc("POST /v1/cache/delete", call(e.CacheDelete))
	m.HandleFunc("POST /v1/cache/mode", call(e.CacheMode))
	m.HandleFunc("POST /v1/cache/warm", stream(e.CacheWarm))
	m.HandleFunc("POST /v1/cache/check", call(e.CacheCheck))
}

// maxCacheRequest bounds a request with a value, in bytes: the longest value in
// base64, and the rest.
const maxCacheRequest = evcache.MaxChunkedValue*4/3 + 1<<20

// CacheStatus of a region's cache, or of every region's.
func (c *Client) CacheStatus(ctx context.Context, region string) (CacheStatus, error) {
	return do[CacheStatus](ctx, c, http.MethodGet, "/v1/cache?region="+url.QueryEscape(region), nil)
}

// CacheGet reads an item.
func (c *Client) CacheGet(ctx context.Context, r CacheKey) (CacheItem, error) {
	return do[CacheItem](ctx, c, http.MethodPost, "/v1/cache/get", r)
}

// CacheSet stores an item.
func (c *Client) CacheSet(ctx context.Context, r CacheSetRequest) (CacheWritten, error) {
	return do[CacheWritten](ctx, c, http.MethodPost, "/v1/cache/set", r)
}

// CacheDelete deletes an item.
func (c *Client) CacheDelete(ctx context.Context, r CacheKey) (CacheWritten, error) {
	return do[CacheWritten](ctx, c, http.MethodPost, "/v1/cache/delete", r)
}

// CacheMode switches what a zone is used for, or what is replicated.
func (c *Client) CacheMode(ctx context.Context, r CacheModeRequest) (CacheStatus, error) {
	return do[CacheStatus](ctx, c, http.MethodPost, "/v1/cache/mode", r)
}

// CacheWarm fills a zone from another one; p hears how far it is.
func (c *Client) CacheWarm(ctx context.Context, r CacheWarmRequest, p Progress) (CacheWarmed, error) {
	return streamed[CacheWarmed](ctx, c, "/v1/cache/warm", r, p)
}

// CacheCheck compares the zones.
func (c *Client) CacheCheck(ctx context.Context, r CacheCheckRequest) (CacheChecked, error) {
	return do[CacheChecked](ctx, c, http.MethodPost, "/v1/cache/check", r)
}
