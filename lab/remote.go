package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/objects"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/services/transcode/transcodepb"
	"github.com/flix-lab/flix/topology"
)

// remotes are the daemon's connections to instances, by address. They are made
// when first needed and shared.
type remotes struct {
	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
	// stores are clients of real stores, by what they are for.
	stores map[string]io.Closer
	http   *http.Client
	tel    *telemetry.Telemetry
}

// kept returns the client of a real store, made when first needed.
func kept[T io.Closer](r *remotes, what string, open func() (T, error)) (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.stores[what].(T); ok {
		return c, nil
	}
	c, err := open()
	if err == nil {
		r.stores[what] = c
	}
	return c, err
}

func newRemotes() *remotes {
	return &remotes{
		conns: map[string]*grpc.ClientConn{}, stores: map[string]io.Closer{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 5 * time.Second}, Timeout: 10 * time.Second},
		tel:  telemetry.New(telemetry.Config{Instance: "daemon", Role: "daemon"}),
	}
}

func (r *remotes) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	for _, c := range r.stores {
		_ = c.Close()
	}
	r.http.CloseIdleConnections()
}

func (r *remotes) conn(address string) (*grpc.ClientConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.conns[address]; ok {
		return c, nil
	}
	opts := append(r.tel.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: fastBackoff, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	c, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	r.conns[address] = c
	return c, nil
}

// specOf declares the first instance of a role in a region.
func (l *Lab) specOf(region string, role topology.Role) (runtime.Spec, error) {
	i, err := l.need()
	if err != nil {
		return runtime.Spec{}, err
	}
	for _, inst := range i.instances() {
		if inst.Region == region && inst.Role == role {
			return l.spec(i, inst)
		}
	}
	return runtime.Spec{}, services.Errorf(services.NotFound, "region %s has no %s", region, role)
}

func (l *Lab) rpc(region string, role topology.Role) (*grpc.ClientConn, error) {
	s, err := l.specOf(region, role)
	if err != nil {
		return nil, err
	}
	return l.remote.conn(s.Addr(topology.PortRPC))
}

func (l *Lab) cacheControl(region string) (cachecontrolpb.CacheControlClient, error) {
	c, err := l.rpc(region, topology.RoleCacheControl)
	if err != nil {
		return nil, err
	}
	return cachecontrolpb.NewCacheControlClient(c), nil
}

func (l *Lab) transcoder(region string) (transcodepb.TranscodeClient, error) {
	c, err := l.rpc(region, topology.RoleTranscode)
	if err != nil {
		return nil, err
	}
	return transcodepb.NewTranscodeClient(c), nil
}

func (l *Lab) s3(region string) (*objects.Client, error) {
	s, err := l.specOf(region, topology.RoleS3)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	key := l.secret.key
	l.mu.Unlock()
	return objects.NewClient(objects.ClientConfig{Endpoint: func(context.Context) (string, error) { return s.Addr(topology.PortHTTP), nil }, AccessKey: containers.AccessKey, SecretKey: key.Secret(token.S3)})
}

// admin calls an instance's admin endpoint; out may be nil, or an *[]byte for
// the raw answer.
func (l *Lab) admin(ctx context.Context, s runtime.Spec, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Addr(topology.PortAdmin)+path, body)
	if err != nil {
		return err
	}
	l.mu.Lock()
	req.Header.Set("Authorization", "Bearer "+l.secret.key.Secret(token.AdminKey))
	l.mu.Unlock()
	return l.remote.json(req, s.ID, out)
}

// json sends a request to an instance and reads its JSON answer; out may be
// nil, or an *[]byte for the raw answer.
func (r *remotes) json(req *http.Request, id string, out any) error {
	resp, err := r.http.Do(req)
	if err != nil {
		return &services.Error{Op: id, Kind: services.Unavailable, Msg: "it does not answer", Err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	if err != nil {
		return &services.Error{Op: id, Kind: services.Unavailable, Err: err}
	}
	var p services.Problem
	if resp.StatusCode >= http.StatusBadRequest && json.Unmarshal(b, &p) == nil && p.Kind != "" {
		return &services.Error{Kind: p.Kind, Reason: p.Reason, Msg: p.Error, Remedy: p.Remedy}
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return services.Errorf(services.KindFromHTTP(resp.StatusCode), "%s %s: %s", id, req.URL.Path, bytes.TrimSpace(b))
	}
	switch o := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*o = b
		return nil
	}
	return json.Unmarshal(b, out)
}

// setProperty makes a property of a role in a region what is wanted, and tells
// every instance that runs. One that does not answer is told when it does, or
// starts.
func (l *Lab) setProperty(ctx context.Context, region string, role topology.Role, name, value string) error {
	return l.setProperties(ctx, region, role, map[string]string{name: value})
}

// setProperties is setProperty for several at once.
func (l *Lab) setProperties(ctx context.Context, region string, role topology.Role, props map[string]string) error {
	if err := l.changeIntent(func(i *intent) {
		for name, value := range props {
			i.setProperty(region, role, name, value)
		}
	}); err != nil {
		return err
	}
	if l.isDown(region) {
		return nil // nobody is there to be told
	}
	i := l.current()
	var errs []error
	for _, inst := range i.instances() {
		if inst.Region != region || inst.Role != role {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return err
		}
		if err := l.admin(ctx, s, http.MethodPost, "/properties", props, nil); err != nil {
			l.owe(s.ID, err, slices.Collect(maps.Keys(props))...)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
