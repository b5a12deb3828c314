package oca

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services/token"
)

// Only who comes from this machine is taken for whom the URL was signed for: from
// elsewhere it would open a client's URLs to everybody who has read them.
func TestOnlyThisMachineStandsIn(t *testing.T) {
	key, err := token.NewKey("lab", bytes.Repeat([]byte("k"), 16))
	if err != nil {
		t.Fatal(err)
	}
	s := newTestServer(t, func(d *Deps) {
		d.Key, d.Clock, d.TrustedProxies = key, func() time.Time { return testNow }, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	good := key.Sign(token.URL, token.Claims{Title: "tt-a", Client: "198.18.0.7"}, testNow, time.Minute)
	for _, c := range []struct{ from, tok, want string }{
		{"127.0.0.1:4000", good, "198.18.0.7:4000"},
		{"203.0.113.9:4000", good, "203.0.113.9:4000"},
		{"127.0.0.1:4000", good + "A", "127.0.0.1:4000"},
	} {
		r := &wire.Request{Path: "/" + c.tok + "/t/tt-a/1/f0", Client: netip.MustParseAddrPort(c.from)}
		if s.standIn(r); r.Client.String() != c.want {
			t.Errorf("from %s: taken for %s, want %s", c.from, r.Client, c.want)
		}
	}
}
