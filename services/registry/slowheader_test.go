package registry_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/registry"
	"github.com/flix-lab/flix/topology"
)

// TestSlowRequests are told so before they are cut; a connection that sends
// nothing is closed.
func TestSlowRequests(t *testing.T) {
	timing := topology.LabTiming()
	f := startWith(t, timing, func(d *registry.Deps) {
		d.BodyTime, d.Timing.RPCTimeout = 2*time.Second, topology.Duration(2*time.Second)
	})
	f.register("KV", "i-1", "UP", 1)
	u, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	const whole = "GET /apps/KV/i-1 HTTP/1.1\r\nHost: r\r\n\r\n"
	for name, c := range map[string]struct {
		first, send string // first is answered before send is sent
		want        int    // 0 is none
	}{
		"nothing":       {"", "", 0},
		"half a line":   {"", "GET /ap", http.StatusRequestTimeout},
		"half a header": {"", "GET /apps HTTP/1.1\r\nHost: r\r\nA: b\r\n", http.StatusRequestTimeout},
		"a second half": {whole, "GET /apps HTTP/1.1\r\nHo", http.StatusRequestTimeout},
		"half a body":   {"", "POST /apps/KV HTTP/1.1\r\nHost: r\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", http.StatusRequestTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", u.Host)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute)) // a connection that nobody cuts fails by it
			r := bufio.NewReader(conn)
			if c.first != "" {
				if status, body := exchange(t, conn, r, c.first); status != http.StatusOK {
					t.Fatalf("%d %s", status, body)
				}
			}
			if c.want != 0 {
				if status, body := exchange(t, conn, r, c.send); status != c.want {
					t.Errorf("%d %s, want %d", status, body, c.want)
				}
			}
			if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
				t.Errorf("then %q, %v; want the end", b, err)
			}
		})
	}
}

func exchange(t *testing.T, conn net.Conn, r *bufio.Reader, send string) (int, []byte) {
	t.Helper()
	if _, err := io.WriteString(conn, send); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}
