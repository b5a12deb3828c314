package gateway

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/gateway/wire"
)

// lateBody is a body whose last piece comes when the time is over by which its
// answer was due.
type lateBody struct {
	pieces []string
	over   context.Context
}

func (b *lateBody) Read(p []byte) (int, error) {
	switch len(b.pieces) {
	case 0:
		return 0, io.EOF
	case 1:
		<-b.over.Done()
	}
	n := copy(p, b.pieces[0])
	b.pieces = b.pieces[1:]
	return n, nil
}

func (b *lateBody) Close() error { return nil }

// An answer is due when its server has had the whole request for as long as it may
// take: an upload over a slow line is not the server's fault.
func TestAnswerIsDueAfterTheBody(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	for name, s := range map[string]wire.Sender{"HTTP/1.1": e.transports.origin, "HTTP/2": e.transports.streams} {
		const limit = patience / 4
		deadline := time.Now().Add(limit / 100)
		over, cancel := context.WithDeadline(t.Context(), deadline.Add(limit/4)) // deadlines may be overrun by an eighth
		body := &lateBody{[]string{"slow ", "line"}, over}
		var resp wire.Response
		err := s.Send(t.Context(), &wire.Request{
			Addr: srv.Listener.Addr().String(), Method: "POST", Target: "/", Host: "h", Header: NewHeader(), Over: NewHeader(),
			Body: body, ContentLength: 9, Start: deadline.Add(-limit), Deadline: deadline,
		}, &resp)
		cancel()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "slow line" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		_ = resp.Body.Close()
	}
}

// Whoever is in a call that its server has taken up may be silent.
func TestCallThatIsTakenUpMayBeSilent(t *testing.T) {
	for _, grpc := range []bool{true, false} {
		armed := time.Now()
		body := &clientBody{src: io.NopCloser(strings.NewReader("a message")), left: 100, timeout: time.Minute, arm: func(t time.Time) error { armed = t; return nil }}
		ex := &Exchange{Request: Request{Header: NewHeader("Content-Type", "application/grpc"), trailers: grpc}, body: &replayBody{src: body}}
		up := &upstreamCall{resp: wire.Response{Status: http.StatusOK, Header: NewHeader(), Body: http.NoBody}}
		up.reply = reply{resp: &up.resp, load: new(load)}
		if _, err := body.Read(make([]byte, 2)); err != nil || armed.IsZero() {
			t.Errorf("before: %v, %v", armed, err)
		}
		if err := new(Server).accept(ex, &up.reply); err != nil || armed.IsZero() != grpc {
			t.Errorf("a read under way, gRPC %t: %v, %v", grpc, armed, err)
		}
		if _, err := body.Read(make([]byte, 2)); err != nil || armed.IsZero() != grpc {
			t.Errorf("the next read, gRPC %t: %v, %v", grpc, armed, err)
		}
		if body.endBy(time.Now()); armed.IsZero() {
			t.Error("a body that is to end has no deadline")
		}
	}
}
