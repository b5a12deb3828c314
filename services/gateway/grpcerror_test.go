package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A client of gRPC learns of the gateway's own errors as it learns of a
// server's.
func TestGRPCErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		routes, says string
		code         codes.Code
		category     Category
	}{
		"no server": {`[{"prefix":"/grpc.testing.TestService","vip":"calls"}]`, "no live server", codes.Unavailable, FailureOriginNoServers},
		"no token":  {`[{"prefix":"/grpc.testing.TestService","vip":"calls","member":true}]`, "token", codes.Unauthenticated, FailureClientDenied},
		"no route":  {`[{"prefix":"/other","vip":"calls"}]`, "no API", codes.Unimplemented, SuccessLocalNoRoute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			e := w.gateway("us-east")
			e.set(PropertyRoutes, tt.routes)
			for how, c := range grpcClients(t, w, e) {
				var h, trailer metadata.MD
				_, err := c.UnaryCall(patiently(t), &pb.SimpleRequest{ResponseSize: 1}, grpc.Header(&h), grpc.Trailer(&trailer))
				s := status.Convert(err)
				if s.Code() != tt.code || !strings.Contains(s.Message(), tt.says) || strings.Contains(s.Message(), "HTTP status") {
					t.Errorf("%s: %v, want %v", how, err, tt.code)
				}
				if got := firstOf(append(h.Get(statusHeader), trailer.Get(statusHeader)...)); got != tt.category.String() {
					t.Errorf("%s: category %q, want %s", how, got, tt.category)
				}
			}
		})
	}
}

// Only gRPC itself is answered so.
func TestGRPCErrorsByContentType(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	c := e.client(eastClient, true)
	for ct, grpc := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC; x=y": true,
		"application/grpc-web": false, "application/grpcx": false, "application/json": false, "": false,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+edgeHost+"/signup/member", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", ct)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		told := resp.StatusCode == http.StatusOK && resp.Header.Get("Grpc-Status") == "14" && resp.Header.Get("Content-Type") == "application/grpc" && len(body) == 0
		plain := resp.StatusCode == http.StatusBadGateway && resp.Header.Get("Grpc-Status") == "" && len(body) > 0
		if grpc && !told || !grpc && !plain {
			t.Errorf("%q: status %d, %v, %q", ct, resp.StatusCode, resp.Header, body)
		}
	}
}

func TestGRPCMessage(t *testing.T) {
	if got := grpcMessage("100 % ü\r\n~"); got != "100 %25 %C3%BC%0D%0A~" {
		t.Errorf("%q", got)
	}
}

func TestGRPCTimeouts(t *testing.T) {
	for h, want := range map[string]time.Duration{
		"100m": 100 * time.Millisecond, "1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4u": 4 * time.Microsecond,
		"99999999n": 99999999, "0S": 0, "99999999H": -1, "": -1, "S": -1, "-1S": -1, "1.5S": -1, "123456789S": -1, "10x": -1,
	} {
		if got, ok := grpcTimeout(h); ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %s, %t; want %s", h, got, ok, want)
		}
	}
	after := func(limit string) *Exchange {
		return &Exchange{chainState: chainState{looked: time.Minute}, Request: Request{Header: NewHeader("Grpc-Timeout", limit)}}
	}
	if late, early, busy := after("60S").codeOfGRPC(504), after("61S").codeOfGRPC(504), after("60S").codeOfGRPC(503); late != "4" || early != "14" || busy != "14" {
		t.Errorf("after the deadline %s, before it %s, for want of room %s", late, early, busy)
	}
}

func TestGRPCCodes(t *testing.T) {
	for status, want := range map[int]string{400: "13", 401: "16", 403: "7", 404: "12", 429: "14", 502: "14", 503: "14", 504: "14", 413: "2", 500: "2"} {
		if got := grpcCode(status); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}
