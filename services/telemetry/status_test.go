package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flix-lab/flix/services"
)

// TestStatusRoundTrip turns every kind into a status and back.
func TestStatusRoundTrip(t *testing.T) {
	for _, k := range []services.Kind{services.Invalid, services.NotFound, services.Denied, services.Conflict, services.Unavailable, services.Exhausted, services.Internal} {
		for _, e := range []*services.Error{
			{Kind: k, Msg: "why"},
			{Kind: k, Msg: "why", Reason: "r"},
			{Kind: k, Msg: "why", Remedy: "then"},
			{Kind: k, Msg: "ä why", Reason: "r", Remedy: "then: 100 %"},
		} {
			sent := fmt.Errorf("op: %w", e)
			st := toStatus(sent)
			if uint32(status.Code(st)) != k.GRPCCode() {
				t.Errorf("%s became %s", k, status.Code(st))
			}
			var got *services.Error
			if err := FromStatus(st); !errors.As(err, &got) || got.Kind != k || got.Reason != e.Reason || got.Remedy != e.Remedy || err.Error() != sent.Error() {
				t.Errorf("%+v came back as %#v", e, got)
			}
			// A second hop changes nothing.
			if again := toStatus(FromStatus(st)); again.Error() != st.Error() {
				t.Errorf("%v became %v", st, again)
			}
		}
	}
}

func TestForeignStatuses(t *testing.T) {
	if toStatus(nil) != nil || FromStatus(nil) != nil {
		t.Error("an error was made of none")
	}
	own := status.Error(codes.AlreadyExists, "there")
	if toStatus(own) != own {
		t.Error("a status did not pass unchanged")
	}
	for err, want := range map[error]codes.Code{
		errors.New("x"):             codes.Internal,
		context.DeadlineExceeded:    codes.Unavailable,
		fmt.Errorf("x: %w", io.EOF): codes.Internal,
		fmt.Errorf("deep: %w", own): codes.AlreadyExists,
	} {
		if got := status.Code(toStatus(err)); got != want {
			t.Errorf("%v became %s, want %s", err, got, want)
		}
	}
	for code, want := range map[codes.Code]services.Kind{
		codes.DeadlineExceeded: services.Unavailable, codes.Canceled: services.Unavailable, codes.Unauthenticated: services.Denied,
		codes.AlreadyExists: services.Conflict, codes.Unimplemented: services.Internal, codes.Unknown: services.Internal,
	} {
		if got := services.KindOf(FromStatus(status.Error(code, "x"))); got != want {
			t.Errorf("%s is %s, want %s", code, got, want)
		}
	}
	if err := FromStatus(io.EOF); !errors.Is(err, io.EOF) {
		t.Errorf("the end of a stream became %v", err)
	}
}

// health answers Check as a test tells it.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
	check func(context.Context) error
}

func (h *health) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{}, h.check(ctx)
}

// TestUnaryTraceContext calls over a real socket: trace, metadata, error and
// metrics all arrive.
func TestUnaryTraceContext(t *testing.T) {
	server, client := New(Config{Instance: "s"}), New(Config{Instance: "c"})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var fail error
	inside := make(chan string, 1)
	h := &health{check: func(ctx context.Context) error {
		md, _ := metadata.FromIncomingContext(ctx)
		inside <- TraceID(ctx) + fmt.Sprint(md.Get("own"))
		return fail
	}}
	g := grpc.NewServer(server.ServerOptions()...)
	grpc_health_v1.RegisterHealthServer(g, h)
	done := make(chan error, 1)
	go func() { done <- g.Serve(ln) }()
	conn, err := grpc.NewClient(ln.Addr().String(), append(client.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { conn.Close(); g.Stop(); <-done }()
	c := grpc_health_v1.NewHealthClient(conn)
	for _, want := range []error{nil, services.Errorf(services.Exhausted, "full").WithReason("limit").WithRemedy("wait")} {
		fail = want
		ctx, root := client.Tracer.Start(t.Context(), "root")
		ctx = metadata.AppendToOutgoingContext(ctx, "own", "kept")
		_, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		root.End()
		id := TraceID(ctx)
		if got := <-inside; got != id+"[kept]" {
			t.Errorf("the handler sees %q, want trace %s and its own metadata", got, id)
		}
		text := ""
		if want != nil {
			text = want.Error()
			var e *services.Error
			if !errors.As(err, &e) || e.Kind != services.Exhausted || e.Reason != "limit" || e.Remedy != "wait" {
				t.Errorf("error %#v", err)
			}
		} else if err != nil {
			t.Errorf("error %v", err)
		}
		mine, theirs := client.Spans(id), streamSpans(t, server, id)
		if len(mine) != 2 || len(theirs) != 1 || theirs[0].ParentID != mine[0].SpanID || theirs[0].Error != text || mine[0].Error != text {
			t.Errorf("client %+v, server %+v", mine, theirs)
		}
	}
	fs, err := server.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, f := range fs {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "kind" {
					counts[l.GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
	}
	if counts["ok"] != 1 || counts["exhausted"] != 1 {
		t.Errorf("rpc_server_requests_total by kind: %v", counts)
	}
}
