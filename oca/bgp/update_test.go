package bgp

import (
	"bytes"
	"net/netip"
	"testing"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/flix-lab/flix/topology"
)

// FuzzUpdate feeds the reader of UPDATEs: it never panics, and what it takes for a
// route is one.
func FuzzUpdate(f *testing.F) {
	ms, err := updates(64500, netip.MustParseAddr("127.0.0.1"), []netip.Prefix{netip.MustParsePrefix("198.18.0.0/20"), netip.MustParsePrefix("2001:db8::/48")},
		[]topology.Route{{Prefix: netip.MustParsePrefix("198.18.16.0/20"), ASPath: 300, MED: 5}, {Prefix: netip.MustParsePrefix("2001:db8:1::/48")}})
	if err != nil {
		f.Fatal(err)
	}
	for _, fam := range families {
		ms = append(ms, packet.NewEndOfRib(fam))
	}
	for _, m := range ms {
		b, err := m.Serialize()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[packet.BGP_HEADER_LENGTH:], true)
		f.Add(b[packet.BGP_HEADER_LENGTH:], false)
	}
	f.Fuzz(func(t *testing.T, body []byte, fourByte bool) {
		if len(body) > packet.BGP_MAX_MESSAGE_LENGTH {
			return
		}
		c, err := readUpdate(64511, fourByte, body)
		if err != nil {
			return
		}
		for _, r := range c.announced {
			if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() {
				t.Errorf("%v is no prefix", r.Prefix)
			}
		}
	})
}

// FuzzOpen feeds the reader of OPENs.
func FuzzOpen(f *testing.F) {
	c := Config{ASN: 4200000001, PeerASN: 64511, ID: netip.MustParseAddr("10.0.0.1"), Hold: minHold, Stale: minHold}
	m, err := openMessage(&c)
	if err != nil {
		f.Fatal(err)
	}
	b, err := m.Serialize()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, body, err := readMessage(bytes.NewReader(b))
		if err != nil || kind != packet.BGP_MSG_OPEN {
			return
		}
		if n, err := readOpen(&Config{PeerASN: 4200000001, Hold: minHold}, body); err == nil && (!n.id.Is4() || n.hold < 0) {
			t.Errorf("%+v is no neighbour", n)
		}
	})
}
