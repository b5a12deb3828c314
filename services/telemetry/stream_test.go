package telemetry

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/flix-lab/flix/services"
)

// watched is a health service whose Watch tells its trace, then ends as asked.
type watched struct {
	grpc_health_v1.UnimplementedHealthServer
	trace chan string
}

func (w *watched) Watch(r *grpc_health_v1.HealthCheckRequest, s grpc_health_v1.Health_WatchServer) error {
	w.trace <- TraceID(s.Context())
	if err := s.Send(&grpc_health_v1.HealthCheckResponse{}); err != nil {
		return err
	}
	if r.GetService() == "" {
		return nil
	}
	return services.Errorf(services.Conflict, "no").WithReason("why").WithRemedy("then")
}

func TestStreamsAreTraced(t *testing.T) {
	server, client := New(Config{Instance: "s"}), New(Config{Instance: "c"})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(append(server.ServerOptions(), grpc.WaitForHandlers(true))...)
	w := &watched{trace: make(chan string, 1)}
	grpc_health_v1.RegisterHealthServer(g, w)
	done := make(chan error, 1)
	go func() { done <- g.Serve(ln) }()
	conn, err := grpc.NewClient(ln.Addr().String(), append(client.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		g.Stop()
		<-done
	})
	const method = "/grpc.health.v1.Health/Watch"
	for _, c := range []struct {
		name, service, fails string
		end                  func(error) bool
	}{
		{"well", "", "", func(err error) bool { return errors.Is(err, io.EOF) }},
		{"badly", "x", "no", func(err error) bool {
			var e *services.Error
			return errors.As(err, &e) && e.Kind == services.Conflict && e.Reason == "why" && e.Remedy == "then"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, span := client.Tracer.Start(t.Context(), "caller")
			defer span.End()
			s, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: c.service})
			if err != nil {
				t.Fatal(err)
			}
			if got := <-w.trace; got != TraceID(ctx) {
				t.Errorf("the handler's trace is %q, want %q", got, TraceID(ctx))
			}
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); !c.end(err) {
				t.Errorf("the stream ended with %v", err)
			}
			for who, tel := range map[string]*Telemetry{"server": server, "client": client} {
				spans := streamSpans(t, tel, TraceID(ctx))
				if len(spans) != 1 || spans[0].Kind != who || spans[0].Name != method || spans[0].Error != c.fails {
					t.Errorf("%s: spans %+v", who, spans)
				}
			}
		})
	}
	families, err := server.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "rpc_server_seconds" && f.GetMetric()[0].GetHistogram().GetSampleCount() == 2 {
			return
		}
	}
	t.Errorf("rpc_server_seconds does not count two streams: %v", families)
}

func streamSpans(t *testing.T, tel *Telemetry, id string) []Span {
	deadline := time.Now().Add(time.Minute) // only a hang takes as long
	for {
		if got := tel.Spans(id); len(got) > 0 || time.Now().After(deadline) {
			return got
		}
		<-time.After(time.Millisecond)
	}
}

// readerFrom counts what came by ReadFrom.
type readerFrom struct {
	*httptest.ResponseRecorder
	read int64
}

func (r *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(r.ResponseRecorder, src)
	r.read += n
	return n, err
}

func TestHandlerPassesReadFromOn(t *testing.T) {
	tel := Discard()
	var id string
	h := tel.Handler("x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id = TraceID(r.Context())
		if _, err := io.Copy(w, io.LimitReader(strings.NewReader("hello"), 4)); err != nil {
			t.Error(err)
		}
	}))
	w := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.read != 4 || w.Body.String() != "hell" {
		t.Errorf("ReadFrom moved %d bytes: %q", w.read, w.Body)
	}
	if s := tel.Spans(id); len(s) != 1 || s[0].Attributes["http.response.status_code"] != "200" {
		t.Errorf("%+v", s)
	}
}
