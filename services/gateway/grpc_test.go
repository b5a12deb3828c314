package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flix-lab/flix/topology"
)

// calls is a gRPC API; what became of a call's context is told on ended.
type calls struct {
	pb.UnimplementedTestServiceServer
	ended chan error
	hung  chan struct{} // told when a call begins to hang
}

// UnaryCall answers with the size asked for, fails with the status asked for,
// or hangs when asked for nothing.
func (c *calls) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-said", firstOf(md.Get("x-say"))))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-bin-bin", "\x00\xff", "x-end", "yes"))
	switch {
	case in.GetResponseStatus() != nil:
		return nil, status.Error(codes.Code(in.GetResponseStatus().GetCode()), in.GetResponseStatus().GetMessage())
	case in.GetResponseSize() == 0:
		if _, ok := ctx.Deadline(); !ok {
			c.ended <- errors.New("the call has no deadline")
			return nil, errors.New("no deadline")
		}
		c.hung <- struct{}{}
		<-ctx.Done()
		c.ended <- ctx.Err()
		return nil, ctx.Err()
	}
	return &pb.SimpleResponse{Payload: &pb.Payload{Body: make([]byte, in.GetResponseSize())}}, nil
}

func firstOf(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// StreamingOutputCall sends messages until the client goes.
func (c *calls) StreamingOutputCall(in *pb.StreamingOutputCallRequest, out pb.TestService_StreamingOutputCallServer) error {
	for _, p := range in.GetResponseParameters() {
		if err := out.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	out.SetTrailer(metadata.Pairs("x-sent", strconv.Itoa(len(in.GetResponseParameters()))))
	if len(in.GetResponseParameters()) > 2 {
		return nil
	}
	<-out.Context().Done()
	c.ended <- out.Context().Err()
	return out.Context().Err()
}

// StreamingInputCall adds sizes up.
func (c *calls) StreamingInputCall(in pb.TestService_StreamingInputCallServer) error {
	sum := 0
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(m.GetPayload().GetBody())
	}
}

// FullDuplexCall answers each message with its like, and ends with a status.
func (c *calls) FullDuplexCall(s pb.TestService_FullDuplexCallServer) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			s.SetTrailer(metadata.Pairs("x-end", "yes"))
			return status.Error(codes.Aborted, "that was all")
		}
		if err != nil {
			return err
		}
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

// grpcAPI starts a gRPC API.
func grpcAPI(t *testing.T) (api *calls, addr string) {
	api = &calls{ended: make(chan error, 4), hung: make(chan struct{}, 4)}
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, api)
	l := listen(t)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return api, l.Addr().String()
}

// A VIP whose instances have a port for gRPC gets calls there; what is no call
// is told so where there is no other port, and goes there where there is.
func TestGRPCGoesToTheRPCPort(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	_, addr := grpcAPI(t)
	web := httptest.NewServer(echo("both"))
	t.Cleanup(web.Close)
	e.registry.addPorts("calls", "us-east/a/calls/1", "a", map[string]string{topology.PortRPC: addr})
	e.registry.addPorts("both", "us-east/a/both/1", "a", map[string]string{topology.PortRPC: addr, topology.PortHTTP: web.Listener.Addr().String()})
	h := e.client(eastClient, true)
	for vip, status := range map[string]int{"calls": 502, "both": 200} {
		e.set(PropertyRoutes, `[{"name":"test","prefix":"/grpc.testing.TestService","vip":"`+vip+`"}]`)
		for how, c := range grpcClients(t, w, e) {
			if out, err := c.UnaryCall(patiently(t), &pb.SimpleRequest{ResponseSize: 7}); err != nil || len(out.GetPayload().GetBody()) != 7 {
				t.Errorf("%s, %s: %v, %v", vip, how, out, err)
			}
		}
		a := ask(t, h, "GET", "/grpc.testing.TestService/x", "")
		if a.StatusCode != status {
			t.Errorf("%s: plain HTTP gets status %d: %s", vip, a.StatusCode, a.body)
		}
		if status == 502 {
			if p := a.problem(t); p.Reason != ReasonNoServers || !strings.Contains(p.Error, "no port http") || !strings.Contains(p.Remedy, "the route test") {
				t.Errorf("%s: %+v", vip, p)
			}
		}
	}
}

// grpcThrough starts a gRPC API behind a gateway and returns clients that come
// over TLS and in the clear.
func grpcThrough(t *testing.T) (*calls, map[string]pb.TestServiceClient) {
	w := newWorld(t)
	e := w.gateway("us-east")
	api, addr := grpcAPI(t)
	e.registry.add("calls", "us-east/a/calls/1", "a", addr)
	e.set(PropertyRoutes, `[{"prefix":"/grpc.testing.TestService","vip":"calls"}]`)
	return api, grpcClients(t, w, e)
}

// grpcClients returns clients of a gateway that come over TLS and in the clear.
func grpcClients(t *testing.T, w *world, e *edge) map[string]pb.TestServiceClient {
	clients := map[string]pb.TestServiceClient{}
	for name, how := range map[string]struct {
		addr string
		as   credentials.TransportCredentials
	}{
		"TLS":   {e.addr, credentials.NewTLS(&tls.Config{RootCAs: w.roots, ServerName: edgeHost})},
		"clear": {e.plainAddr, insecure.NewCredentials()},
	} {
		conn, err := grpc.NewClient("passthrough:///"+how.addr, grpc.WithTransportCredentials(how.as),
			grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return dialAs(ctx, a, eastClient) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		clients[name] = pb.NewTestServiceClient(conn)
	}
	return clients
}

// What a gRPC client and server may do with one another they may do through a
// gateway.
func TestGRPCPassesThrough(t *testing.T) {
	api, clients := grpcThrough(t)
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			t.Run("unary", func(t *testing.T) { grpcUnary(t, c) })
			t.Run("status", func(t *testing.T) { grpcStatus(t, c) })
			t.Run("server stream", func(t *testing.T) { grpcServerStream(t, c) })
			t.Run("client stream", func(t *testing.T) { grpcClientStream(t, c) })
			t.Run("both ways", func(t *testing.T) { grpcDuplex(t, c) })
			t.Run("deadline", func(t *testing.T) { grpcDeadline(t, c, api) })
			t.Run("cancellation", func(t *testing.T) { grpcCancel(t, c, api) })
		})
	}
}

func patiently(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func grpcUnary(t *testing.T, c pb.TestServiceClient) {
	var header, trailer metadata.MD
	ctx := metadata.AppendToOutgoingContext(patiently(t), "x-say", "hello")
	for _, size := range []int32{1, 1 << 20} {
		in := &pb.SimpleRequest{ResponseSize: size, Payload: &pb.Payload{Body: make([]byte, 1<<20)}}
		out, err := c.UnaryCall(ctx, in, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil || len(out.GetPayload().GetBody()) != int(size) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if firstOf(header.Get("x-said")) != "hello" || firstOf(trailer.Get("x-end")) != "yes" || firstOf(trailer.Get("x-bin-bin")) != "\x00\xff" {
			t.Errorf("header %v, trailer %v", header, trailer)
		}
	}
}

func grpcStatus(t *testing.T, c pb.TestServiceClient) {
	var trailer metadata.MD
	_, err := c.UnaryCall(patiently(t), &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.FailedPrecondition), Message: "not yet: 50 % ünder"}}, grpc.Trailer(&trailer))
	if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "not yet: 50 % ünder" || firstOf(trailer.Get("x-end")) != "yes" {
		t.Errorf("%v, trailer %v", err, trailer)
	}
	if _, err := c.UnimplementedCall(patiently(t), &pb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that is none: %v", err)
	}
}

func grpcServerStream(t *testing.T, c pb.TestServiceClient) {
	in := new(pb.StreamingOutputCallRequest)
	for k := range 50 {
		in.ResponseParameters = append(in.ResponseParameters, &pb.ResponseParameters{Size: int32(k * 1000)})
	}
	s, err := c.StreamingOutputCall(patiently(t), in)
	if err != nil {
		t.Fatal(err)
	}
	for k := range 50 {
		m, err := s.Recv()
		if err != nil || len(m.GetPayload().GetBody()) != k*1000 {
			t.Fatalf("message %d: %d bytes, %v", k, len(m.GetPayload().GetBody()), err)
		}
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) || firstOf(s.Trailer().Get("x-sent")) != "50" {
		t.Errorf("the end: %v, %v", err, s.Trailer())
	}
}

func grpcClientStream(t *testing.T, c pb.TestServiceClient) {
	s, err := c.StreamingInputCall(patiently(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := s.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, 10_000)}}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := s.CloseAndRecv(); err != nil || r.GetAggregatedPayloadSize() != 200_000 {
		t.Errorf("%v, %v", r, err)
	}
}

// Each message waits for the answer to the one before: nothing is held back on
// the way.
func grpcDuplex(t *testing.T, c pb.TestServiceClient) {
	s, err := c.FullDuplexCall(patiently(t))
	if err != nil {
		t.Fatal(err)
	}
	for k := range 20 {
		if err := s.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: make([]byte, k)}}); err != nil {
			t.Fatal(err)
		}
		if m, err := s.Recv(); err != nil || len(m.GetPayload().GetBody()) != k {
			t.Fatalf("message %d: %v, %v", k, m, err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.Aborted || firstOf(s.Trailer().Get("x-end")) != "yes" {
		t.Errorf("the end: %v, %v", err, s.Trailer())
	}
}

// over waits until the server has seen a call end.
func (c *calls) over(t *testing.T) {
	t.Helper()
	select {
	case err := <-c.ended:
		if err == nil || (!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)) {
			t.Errorf("the server's call ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the server never learns that the call is over")
	}
}

func grpcDeadline(t *testing.T, c pb.TestServiceClient, api *calls) {
	// A deadline that ends on the way there tells nothing of what becomes of one
	// at the server: then there is a longer one.
	for d := 100 * time.Millisecond; ; d *= 4 {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		// Both ends know the deadline. Where the server's timer is first, it
		// breaks the call off, and the gateway says why.
		_, err := c.UnaryCall(ctx, &pb.SimpleRequest{})
		if code := status.Code(err); code != codes.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		select {
		case <-api.hung:
			api.over(t)
			return
		default:
		}
	}
}

func grpcCancel(t *testing.T, c pb.TestServiceClient, api *calls) {
	ctx, cancel := context.WithCancel(patiently(t))
	s, err := c.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	api.over(t)
}
