package topology

import (
	"net/netip"
	"testing"
)

func TestAbroadRoundTrip(t *testing.T) {
	top, err := Preset(6)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"AA", "DE", "FR", "US", "ZZ"} {
		for k := range uint64(40) {
			a, ok := AbroadAddr(c, k)
			if !ok || top.CountryOf(a) != c {
				t.Fatalf("AbroadAddr(%s, %d) = %v, whose country is %q", c, k, a, top.CountryOf(a))
			}
		}
	}
	for _, c := range []string{"", "D", "de", "D1", "DEU"} {
		if a, ok := AbroadAddr(c, 0); ok {
			t.Errorf("AbroadAddr(%q) = %v, want a refusal", c, a)
		}
	}
	for addr, want := range map[string]string{"198.18.0.9": "US", "198.18.128.9": "GB", "10.0.0.1": "", "198.19.255.255": "", "2001:db8::1": "US"} {
		if got := top.CountryOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("CountryOf(%s) = %q, want %q", addr, got, want)
		}
	}
}
