package topology

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestParseRoutes(t *testing.T) {
	table, err := ParseRoutes("table.txt", strings.NewReader("# a table\n198.18.0.0/20 us-east-ix 2 50\n\n2001:db8::/48\tus-east-isp-1  # ours\n10.0.0.0/8 us-east/us-east-ix/oca/1 3\n"))
	if err != nil || table.Len() != 3 || len(table.Places()) != 3 {
		t.Fatalf("%+v, %v", table, err)
	}
	if got := table.At("us-east-ix"); len(got) != 1 || got[0].ASPath != 2 || got[0].MED != 50 || got[0].Prefix.String() != "198.18.0.0/20" {
		t.Errorf("%+v", got)
	}
}

func TestParseRoutesSaysWhereAndWhat(t *testing.T) {
	for text, want := range map[string]string{
		"\nten/8 x\n":              `table.txt:2: prefix: "ten/8" is not a prefix`,
		"10.0.0.1/8 x\n":           `table.txt:1: prefix: "10.0.0.1/8" has bits beyond its length: write 10.0.0.0/8`,
		"::ffff:10.1.0.0/112 x\n":  `table.txt:1: prefix: "::ffff:10.1.0.0/112" is of IPv4 addresses in the form of IPv6, which no client has: write 10.1.0.0/16`,
		"10.0.0.0/8\n":             "table.txt:1: place: is missing",
		"10.0.0.0/8 x 256\n":       `table.txt:1: as_path: "256" is not a path length`,
		"10.0.0.0/8 x 1 -4\n":      `table.txt:1: med: "-4" is not a multi-exit`,
		"10.0.0.0/8 x 1 2 3\n":     `table.txt:1: line: "3" is one field too many`,
		strings.Repeat("x", 1<<17): "table.txt:1: cannot be read",
	} {
		_, err := ParseRoutes("table.txt", strings.NewReader(text))
		var pe *ParseError
		if err == nil || !errors.As(err, &pe) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParseRoutes(f *testing.F) {
	f.Add("198.18.0.0/20 us-east-ix 2 50\n")
	f.Add("2001:db8::/48\tus-east-isp-1  # ours\n\n10.0.0.0/8 a 1")
	f.Add("10.0.0.1/8 x\n1/1 1 1 1 1")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := ParseRoutes("f", strings.NewReader(text))
		if err != nil {
			return
		}
		n := 0
		for _, place := range table.Places() {
			for _, r := range table.At(place) {
				if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() || r.ASPath > maxASPath {
					t.Errorf("%q gives %+v", text, r)
				}
				n++
			}
		}
		if n != table.Len() {
			t.Errorf("%d routes, Len says %d", n, table.Len())
		}
	})
}

func TestCatchAll(t *testing.T) {
	for text, want := range map[string]bool{
		"0.0.0.0/0": true, "128.0.0.0/1": true, "10.0.0.0/7": true, "10.0.0.0/8": false, "198.18.0.0/15": false,
		"::/0": true, "2000::/3": true, "2001::/11": true, "2600::/12": false, "2001:db8::/32": false, "fc00::/7": false, "fd00::/8": false, "fe00::/7": true,
	} {
		if got := CatchAll(netip.MustParsePrefix(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
