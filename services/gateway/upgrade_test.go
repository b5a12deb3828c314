package gateway

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services/gateway/wire"
)

// ends is a server's side of a connection.
type ends struct {
	io.ReadWriter
	closed int
}

func (e *ends) Close() error { e.closed++; return nil }

// The end of a client's connection ends an upgraded one from beside, maybe when its
// exchange is over: what the exchange was made of is then another's.
func TestUpgradedConnectionMayEndAfterItsExchange(t *testing.T) {
	server, l := new(ends), new(load)
	l.InFlight.Add(1)
	up := &upstreamCall{resp: wire.Response{Status: http.StatusSwitchingProtocols, Header: NewHeader(), Upgraded: server}}
	up.reply = reply{resp: &up.resp, load: l}
	ex := new(Exchange)
	if err := new(Server).accept(ex, &up.reply); err != nil {
		t.Fatal(err)
	}
	conn := ex.Response.Upgraded
	_ = conn.Close() // by the exchange's own end
	another := new(load)
	up.clear()
	up.reply.load = another
	_ = conn.Close() // by the context's
	if n, of := l.InFlight.Load(), another.InFlight.Load(); n != 0 || of != 0 || server.closed == 0 {
		t.Errorf("%d requests under way, %d of another, closed %d times", n, of, server.closed)
	}
}

// What a client sends behind the body of a request to switch protocols is of the
// other one. A body that cannot be told from it in advance leaves the switch out.
func TestUpgradeWithABody(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Upgrade") != "shout" {
			http.Error(w, r.Header.Get("Upgrade")+" is no upgrade", http.StatusUpgradeRequired)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString(string(body) + " " + line)
		_ = rw.Flush()
	})
	const head = "POST /signup/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: shout\r\n"
	for name, pieces := range map[string][]string{
		"at once":       {head + "Content-Length: 4\r\n\r\nbodyline\n"},
		"in two pieces": {head + "Content-Length: 4\r\n\r\nbo", "dyline\n"},
		"with leave":    {head + "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n", "bodyline\n"},
	} {
		c := e.raw(t)
		for _, p := range pieces {
			c.send("%s", p)
		}
		resp, err := http.ReadResponse(c.r, nil)
		if err == nil && resp.StatusCode == http.StatusContinue {
			resp, err = http.ReadResponse(c.r, nil)
		}
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %v, %v", name, resp, err)
		}
		if line, err := bufio.NewReader(c.r).ReadString('\n'); err != nil || line != "body line\n" {
			t.Errorf("%s: %q, %v", name, line, err)
		}
	}
	for name, body := range map[string]string{
		"chunks":     "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
		"a long one": "Content-Length: 65537\r\n\r\n" + strings.Repeat("a", maxReplay+1),
	} {
		c := e.raw(t)
		c.send("%s%s", head, body)
		if resp, text := c.answer("POST"); resp.StatusCode != http.StatusUpgradeRequired || text != " is no upgrade\n" {
			t.Errorf("%s: %s %s", name, resp.Status, text)
		}
	}
}
