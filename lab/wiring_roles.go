package lab

import (
	"context"
	"io"
	"maps"
	"slices"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/discovery"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/keystone"
	"github.com/flix-lab/flix/services/kv"
	kvembedded "github.com/flix-lab/flix/services/kv/embedded"
	"github.com/flix-lab/flix/services/license"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/objects"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/services/playback"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/recommend"
	"github.com/flix-lab/flix/services/recommend/recommendpb"
	"github.com/flix-lab/flix/services/registry"
	searchembedded "github.com/flix-lab/flix/services/search/embedded"
	"github.com/flix-lab/flix/services/signup"
	"github.com/flix-lab/flix/services/sqldb"
	sqlembedded "github.com/flix-lab/flix/services/sqldb/embedded"
	"github.com/flix-lab/flix/services/steering"
	"github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// builder makes the role of a unit from its spec.
type builder func(*unit) (services.Unit, error)

// builders of every role.
var builders = map[topology.Role]builder{
	topology.RoleRegistry:     buildRegistry,
	topology.RoleKafka:        buildKafka,
	topology.RoleKV:           buildKV,
	topology.RoleSQL:          buildSQL,
	topology.RoleSearch:       buildSearch,
	topology.RoleS3:           buildS3,
	topology.RoleEVCache:      buildEVCache,
	topology.RoleCacheControl: buildCacheControl,
	topology.RoleSteering:     buildSteering,
	topology.RoleLicense:      buildLicense,
	topology.RolePlayback:     buildPlayback,
	topology.RoleRecommend:    buildRecommend,
	topology.RoleKeystone:     buildKeystone,
	topology.RoleTranscode:    buildTranscode,
	topology.RoleSignup:       buildSignup,
	topology.RoleDiscovery:    buildDiscovery,
	topology.RolePlay:         buildPlay,
	topology.RoleGateway:      buildGateway,
	topology.RoleELB:          buildELB,
	topology.RoleDNS:          buildDNS,
	topology.RoleOCA:          buildOCA,
}

func (u *unit) timing() topology.Timing { return u.world.Topology.Timing }

// farTiming is timing for a role that calls other regions.
func (u *unit) farTiming() topology.Timing {
	far := topology.Duration(0)
	for _, r := range u.world.Topology.RegionNames() {
		far = max(far, u.world.Topology.RTT(u.spec.Region, r))
	}
	return overDistance(u.timing(), far)
}

// roundTrips that a first call over a new connection takes: TCP, the
// transport's settings, the call itself, and one to spare.
const roundTrips = 4

// overDistance makes room in the time-outs for round trips to another region.
func overDistance(t topology.Timing, rtt topology.Duration) topology.Timing {
	t.RPCTimeout += roundTrips * rtt
	return t
}

func buildRegistry(u *unit) (services.Unit, error) {
	d := registry.Deps{Listener: u.ls.TCP[topology.PortHTTP], Tel: u.tel, Timing: u.timing(), Region: u.spec.Region, Dial: u.dial()}
	own := "http://" + u.spec.Addr(topology.PortHTTP)
	others := func() []string {
		return slices.DeleteFunc(slices.Clone(u.w.world.Load().Registries[u.spec.Region]), func(s string) bool { return s == own })
	}
	d.Peers = others // none, unless the topology gives the region more than one
	d.Remotes = func() map[string][]string {
		all := maps.Clone(u.w.world.Load().Registries)
		delete(all, u.spec.Region)
		return all
	}
	return registry.New(d)
}

func buildKafka(u *unit) (services.Unit, error) {
	return events.NewServer(events.ServerConfig{Dir: u.spec.Dir, Listener: u.ls.TCP[topology.PortRPC], Retention: u.timing().KafkaRetention.D(), Tel: u.tel})
}

func buildKV(u *unit) (services.Unit, error) {
	return kvembedded.NewServer(kvembedded.Config{
		Dir: u.spec.Dir, Region: u.spec.Region, RPC: u.ls.TCP[topology.PortRPC], Replication: u.ls.TCP[topology.PortReplication],
		Peers: u.peers(topology.RoleKV, topology.PortReplication), Dial: u.dial(), Tel: u.tel, Timing: u.farTiming(), Clock: u.clock,
	})
}

func buildSQL(u *unit) (services.Unit, error) {
	return sqlembedded.NewServer(sqlembedded.Config{
		Dir: u.spec.Dir, Region: u.spec.Region, RPC: u.ls.TCP[topology.PortRPC], Replication: u.ls.TCP[topology.PortReplication],
		Primary: u.spec.Primary, Peers: u.peers(topology.RoleSQL, topology.PortReplication), Dial: u.dial(), Tel: u.tel, Timing: u.farTiming(),
	})
}

func buildSearch(u *unit) (services.Unit, error) {
	return searchembedded.NewServer(searchembedded.Config{Dir: u.spec.Dir, RPC: u.ls.TCP[topology.PortRPC], Tel: u.tel})
}

func buildS3(u *unit) (services.Unit, error) {
	return objects.NewServer(objects.ServerConfig{
		Dir: u.spec.Dir, Listener: u.ls.TCP[topology.PortHTTP], AccessKey: containers.AccessKey, SecretKey: u.world.key.Secret(token.S3), Tel: u.tel,
	})
}

func buildEVCache(u *unit) (services.Unit, error) {
	s, err := evcache.NewServer(evcache.ServerConfig{Listener: u.ls.TCP[topology.PortRPC], Tel: u.tel})
	return cacheKeeper{s, u}, err
}

// stores returns clients of the region's relational store, wide-column store
// and cache.
func (u *unit) stores() (sqldb.DB, kv.Store, *evcache.Client, error) {
	db, err := u.sql()
	if err != nil {
		return nil, nil, nil, err
	}
	store, err := u.kv()
	if err != nil {
		return nil, nil, nil, err
	}
	cache, err := u.cache()
	if err != nil {
		return nil, nil, nil, err
	}
	return db, store, cache, nil
}

// producer returns a producer to the region's Kafka.
func (u *unit) producer() (*events.Producer, error) {
	p, err := events.NewProducer(events.ProducerConfig{
		Brokers: u.addresses(topology.RoleKafka, topology.PortRPC), Dial: u.dial(), ClientID: u.spec.ID, Tel: u.tel,
	})
	if err != nil {
		return nil, err
	}
	u.closers = append(u.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		err := p.Flush(ctx)
		p.Close()
		return err
	})
	return p, nil
}

// s3 returns a client of a region's object store.
func (u *unit) s3(region string) (*objects.Client, error) {
	reg := u.w.lookup(u.spec.Region, region)
	c, err := objects.NewClient(objects.ClientConfig{
		Endpoint: func(ctx context.Context) (string, error) {
			is, err := reg.Wait(ctx, string(topology.RoleS3), 1)
			if err != nil {
				return "", err
			}
			return is[0].Addr(topology.PortHTTP), nil
		},
		AccessKey: containers.AccessKey, SecretKey: u.world.key.Secret(token.S3), Dial: u.dial(),
	})
	if err != nil {
		return nil, err
	}
	u.closers = append(u.closers, func() error { c.Close(); return nil })
	return c, nil
}

func buildCacheControl(u *unit) (services.Unit, error) {
	store, err := u.kv()
	if err != nil {
		return nil, err
	}
	prod, err := u.producer()
	if err != nil {
		return nil, err
	}
	presign, err := u.presigner()
	if err != nil {
		return nil, err
	}
	u.knowAll()
	return cachecontrol.New(cachecontrol.Deps{
		RPC: u.ls.TCP[topology.PortRPC], Region: u.spec.Region, Instance: u.spec.ID, KV: store, Events: prod,
		Peers: u.cacheControls(), Regions: func() []string { return u.w.topology().RegionNames() },
		Presign: presign, Topology: u.w.topology, Tel: u.tel, Timing: u.farTiming(),
	})
}

// presigner signs GETs of published files at any region's object store.
func (u *unit) presigner() (func(region, key string) (string, error), error) {
	clients := map[string]*objects.Client{}
	for _, r := range u.world.Topology.RegionNames() {
		c, err := u.s3(r)
		if err != nil {
			return nil, err
		}
		clients[r] = c
	}
	return func(region, key string) (string, error) {
		c, ok := clients[region]
		if !ok {
			// A region that came later: its store has the same key, at another
			// address.
			var err error
			if c, err = u.s3Detached(region); err != nil {
				return "", err
			}
		}
		return c.Presign(context.Background(), mediaBucket, key, u.timing().URLExpiry.D())
	}, nil
}

// s3Detached is s3 for a client that holds no connection.
func (u *unit) s3Detached(region string) (*objects.Client, error) {
	reg := u.w.lookup(u.spec.Region, region)
	return objects.NewClient(objects.ClientConfig{
		Endpoint: func(context.Context) (string, error) {
			for _, i := range reg.VIP(string(topology.RoleS3)) {
				return i.Addr(topology.PortHTTP), nil
			}
			return "", services.Errorf(services.Unavailable, "region %s shows no object store", region)
		},
		AccessKey: containers.AccessKey, SecretKey: u.world.key.Secret(token.S3), Dial: u.dial(),
	})
}

// cacheControls returns clients of the other regions' cache controls, made
// when first needed.
func (u *unit) cacheControls() func(region string) (cachecontrolpb.CacheControlClient, bool) {
	conns := newLazy(func(region string) (*grpc.ClientConn, error) {
		return u.w.lookup(u.spec.Region, region).Dial(string(topology.RoleCacheControl), topology.PortRPC, u.dialOptions(string(topology.RoleCacheControl))...)
	})
	u.closers = append(u.closers, conns.close)
	return func(region string) (cachecontrolpb.CacheControlClient, bool) {
		if len(u.w.lookup(u.spec.Region, region).VIP(string(topology.RoleCacheControl))) == 0 {
			return nil, false
		}
		c, err := conns.get(region)
		if err != nil {
			return nil, false
		}
		return cachecontrolpb.NewCacheControlClient(c), true
	}
}

func buildSteering(u *unit) (services.Unit, error) {
	cc, err := u.rpc(topology.RoleCacheControl)
	if err != nil {
		return nil, err
	}
	s, err := steering.New(steering.Deps{
		RPC: u.ls.TCP[topology.PortRPC], CacheControl: cachecontrolpb.NewCacheControlClient(cc),
		Topology: u.world.Topology, Region: u.spec.Region, Tel: u.tel, Timing: u.timing(),
	})
	if err != nil {
		return nil, err
	}
	u.onTopology(s.SetTopology)
	return s, nil
}

func buildLicense(u *unit) (services.Unit, error) {
	return license.New(license.Deps{RPC: u.ls.TCP[topology.PortRPC], Tel: u.tel, Timing: u.timing(), Region: u.spec.Region, Instance: u.spec.ID, Key: u.world.key, Clock: u.clock})
}

func buildPlayback(u *unit) (services.Unit, error) {
	db, store, cache, err := u.stores()
	if err != nil {
		return nil, err
	}
	prod, err := u.producer()
	if err != nil {
		return nil, err
	}
	return playback.New(playback.Deps{
		RPC: u.ls.TCP[topology.PortRPC], Tel: u.tel, Timing: u.timing(), Region: u.spec.Region, Instance: u.spec.ID,
		DB: db, KV: store, Cache: cache, Events: prod,
	})
}

func buildRecommend(u *unit) (services.Unit, error) {
	db, store, cache, err := u.stores()
	if err != nil {
		return nil, err
	}
	return recommend.New(recommend.Deps{
		RPC: u.ls.TCP[topology.PortRPC], Tel: u.tel, Timing: u.timing(), Region: u.spec.Region, Instance: u.spec.ID,
		Titles: db, KV: store, Cache: cache,
	})
}

// archive writes the pipeline's batches to the region's object store.
type archive struct{ c *objects.Client }

// Put implements keystone.Archive.
func (a archive) Put(ctx context.Context, bucket, key string, r io.Reader, size int64) error {
	if err := a.c.EnsureBucket(ctx, bucket); err != nil {
		return err
	}
	_, err := a.c.Put(ctx, bucket, key, r, size, "application/x-ndjson")
	return err
}

func buildKeystone(u *unit) (services.Unit, error) {
	_, store, cache, err := u.stores()
	if err != nil {
		return nil, err
	}
	s3, err := u.s3(u.spec.Region)
	if err != nil {
		return nil, err
	}
	p := u.pipeline()
	s, err := keystone.New(keystone.Deps{
		Tel: u.tel, Timing: u.timing(), Region: u.spec.Region, Instance: u.spec.ID, KV: store, Cache: cache, Archive: archive{s3},
		CacheKeys: titleCacheKeys, Consume: p.consume,
	})
	if err != nil {
		return nil, err
	}
	return router{s, u, p}, nil
}

func buildSignup(u *unit) (services.Unit, error) {
	db, _, cache, err := u.stores()
	if err != nil {
		return nil, err
	}
	prod, err := u.producer()
	if err != nil {
		return nil, err
	}
	return signup.New(signup.Deps{
		HTTP: u.ls.TCP[topology.PortHTTP], Tel: u.tel, Timing: u.timing(), Region: u.spec.Region, Instance: u.spec.ID,
		Members: db, Cache: cache, Events: prod, Key: u.world.key, Iterations: labIterations, Document: OpenAPI(),
	})
}

func buildDiscovery(u *unit) (services.Unit, error) {
	db, _, cache, err := u.stores()
	if err != nil {
		return nil, err
	}
	idx, err := u.index()
	if err != nil {
		return nil, err
	}
	rec, err := u.rpc(topology.RoleRecommend)
	if err != nil {
		return nil, err
	}
	return discovery.New(discovery.Deps{
		HTTP: u.ls.TCP[topology.PortHTTP], Tel: u.tel, Timing: u.timing(), Region: u.spec.Region, Instance: u.spec.ID,
		Titles: db, Index: idx, Cache: cache, Recommend: recommendpb.NewRecommendClient(rec),
	})
}

func buildPlay(u *unit) (services.Unit, error) {
	conns := map[topology.Role]*grpc.ClientConn{}
	for _, r := range []topology.Role{topology.RolePlayback, topology.RoleLicense, topology.RoleSteering, topology.RoleCacheControl} {
		c, err := u.rpc(r)
		if err != nil {
			return nil, err
		}
		conns[r] = c
	}
	cache, err := u.cache()
	if err != nil {
		return nil, err
	}
	return play.New(play.Deps{
		HTTP: u.ls.TCP[topology.PortHTTP], Tel: u.tel, Timing: u.timing(), Region: u.spec.Region, Instance: u.spec.ID,
		Playback:     playbackpb.NewPlaybackClient(conns[topology.RolePlayback]),
		License:      licensepb.NewLicenseClient(conns[topology.RoleLicense]),
		Steering:     steeringpb.NewSteeringClient(conns[topology.RoleSteering]),
		CacheControl: cachecontrolpb.NewCacheControlClient(conns[topology.RoleCacheControl]),
		Cache:        cache, Key: u.world.key, Dial: u.dial(),
	})
}
