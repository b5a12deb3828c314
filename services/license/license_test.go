package license

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type rig struct {
	client licensepb.LicenseClient
	conn   *grpc.ClientConn
	tel    *telemetry.Telemetry
	key    token.Key
}

func start(t *testing.T) rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.NewKey("lab", []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	tel := telemetry.Discard()
	s, err := New(Deps{RPC: ln, Tel: tel, Timing: topology.LabTiming(), Region: "us-east", Instance: "us-east/a/license/1", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	conn, err := grpc.NewClient(ln.Addr().String(), append(telemetry.Discard().DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return rig{licensepb.NewLicenseClient(conn), conn, tel, key}
}

func request() *licensepb.IssueRequest {
	return &licensepb.IssueRequest{SessionId: "s1", MemberId: "m1", TitleId: "tt-a", Device: "tv", Country: "US", MaxHeight: 1080}
}

func TestIssueBindsTheLicence(t *testing.T) {
	r := start(t)
	got, err := r.client.Issue(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.key.Verify(token.License, got.GetLicense(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if c.Session != "s1" || c.Member != "m1" || c.Title != "tt-a" || c.Device != "tv" || c.Country != "US" || c.MaxHeight != 1080 {
		t.Errorf("claims %+v", c)
	}
	if got.GetExpiresUnixMs() != c.Expires*1000 {
		t.Errorf("says it expires at %d, the token at %d", got.GetExpiresUnixMs(), c.Expires*1000)
	}
	if _, err := r.key.Verify(token.URL, got.GetLicense(), time.Now()); err == nil {
		t.Error("a licence verifies as an appliance URL's token")
	}
}

func TestIssueRefusesWhatItCannotBind(t *testing.T) {
	r := start(t)
	for name, spoil := range map[string]func(*licensepb.IssueRequest){
		"session": func(q *licensepb.IssueRequest) { q.SessionId = "" }, "member": func(q *licensepb.IssueRequest) { q.MemberId = "" },
		"title": func(q *licensepb.IssueRequest) { q.TitleId = "" }, "device": func(q *licensepb.IssueRequest) { q.Device = "" },
		"country": func(q *licensepb.IssueRequest) { q.Country = "" },
	} {
		q := request()
		spoil(q)
		if _, err := r.client.Issue(t.Context(), q); services.KindOf(err) != services.Invalid {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestRenewAndRelease(t *testing.T) {
	r := start(t)
	first, err := r.client.Issue(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	license := first.GetLicense()
	if _, err := r.client.Renew(t.Context(), &licensepb.RenewRequest{License: license, SessionId: "s2"}); services.ReasonOf(err) != ReasonBinding {
		t.Errorf("another session renews: %v", err)
	}
	if _, err := r.client.Renew(t.Context(), &licensepb.RenewRequest{License: license + "x", SessionId: "s1"}); services.ReasonOf(err) != "token_forged" {
		t.Errorf("a forged licence renews: %v", err)
	}
	again, err := r.client.Renew(t.Context(), &licensepb.RenewRequest{License: license, SessionId: "s1"})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := r.key.Verify(token.License, again.GetLicense(), time.Now()); err != nil || c.Title != "tt-a" || c.MaxHeight != 1080 {
		t.Errorf("renewed: %+v, %v", c, err)
	}
	for range 2 {
		if _, err := r.client.Release(t.Context(), &licensepb.ReleaseRequest{License: license, SessionId: "s1"}); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	if _, err := r.client.Renew(t.Context(), &licensepb.RenewRequest{License: license, SessionId: "s1"}); services.ReasonOf(err) != ReasonReleased {
		t.Errorf("a released licence renews: %v", err)
	}
}

func TestExpired(t *testing.T) {
	r := start(t)
	old := r.key.Sign(token.License, token.Claims{Session: "s1"}, time.Now().Add(-time.Hour), time.Minute)
	if _, err := r.client.Renew(t.Context(), &licensepb.RenewRequest{License: old, SessionId: "s1"}); services.ReasonOf(err) != "token_expired" {
		t.Errorf("renew: %v", err)
	}
	if _, err := r.client.Release(t.Context(), &licensepb.ReleaseRequest{License: old, SessionId: "s1"}); err != nil {
		t.Errorf("release: %v", err)
	}
}

func TestPropertyBreaksTheService(t *testing.T) {
	r := start(t)
	r.tel.Properties.Set(map[string]string{PropertyFail: "on"})
	if _, err := r.client.Issue(t.Context(), request()); services.KindOf(err) != services.Internal {
		t.Errorf("issue while broken: %v", err)
	}
	r.tel.Properties.Set(map[string]string{PropertyFail: ""})
	if _, err := r.client.Issue(t.Context(), request()); err != nil {
		t.Errorf("issue once mended: %v", err)
	}
}

func TestHealth(t *testing.T) {
	r := start(t)
	got, err := grpc_health_v1.NewHealthClient(r.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", got, err)
	}
}

func TestRecentIsBounded(t *testing.T) {
	r := newRecent(3)
	for i := range 10 {
		if !r.add(strconv.Itoa(i)) {
			t.Errorf("%d is not new", i)
		}
	}
	if r.add("9") || !r.has("7") || r.has("6") || len(r.known) != 3 {
		t.Errorf("after ten of three: %d known", len(r.known))
	}
}
