package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/addresstest"
)

// bgpPlanet has a site with a router that the lab runs, and one with a router that
// it does not.
const bgpPlanet = `
bgp: true
regions:
- name: us-east
  exchange: {name: us-east-ix, appliances: 1}
  isps:
  - {name: isp-own, prefixes: [198.18.0.0/20, "2001:db8::/48"], appliances: 1}
  - {name: isp-bird, asn: 65010, prefixes: [198.18.16.0/20, "2001:db8:1::/48"], appliances: 1, router: {address: "127.0.0.1:%d"}}
`

const birdConfig = `
log stderr all;
router id 10.0.0.9;
protocol device {}
protocol static four { ipv4; route 198.18.16.0/20 blackhole; }
protocol static six { ipv6; route 2001:db8:1::/48 blackhole; }
filter far { bgp_path.prepend(65077); bgp_path.prepend(65078); bgp_med = 50; accept; }
protocol bgp appliance {
	local 127.0.0.1 port %d as 65010;
	neighbor 127.0.0.1 as 64511;
	multihop; passive;
	ipv4 { import none; export filter far; next hop address 192.0.2.1; };
	ipv6 { import none; export filter far; next hop address 2001:db8::1; };
}
`

// TestBGP has appliances learn their routes over BGP: from the lab's own router,
// and from a stock one where that is installed.
func TestBGP(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			if rt.containers() {
				t.Skip("bgp: true is not built for containers")
			}
			port := addresstest.Port(t) // bird comes to it later
			planet := filepath.Join(t.TempDir(), "planet.yaml")
			if err := os.WriteFile(planet, fmt.Appendf(nil, bgpPlanet, port), 0o600); err != nil {
				t.Fatal(err)
			}
			l := up(t, rt, "--topology", planet)
			t.Run("own router", func(t *testing.T) { ownRouter(l.on(t)) })
			t.Run("bird", func(t *testing.T) { birdRouter(l.on(t), port) })
		})
	}
}

// reached waits until steering says how an appliance of a site is reached.
func (l *lab) reached(ip, site, want string) {
	l.t.Helper()
	await(l.t, time.Minute, site+" is reached by "+want, func() error {
		var e struct {
			Decisions []struct {
				Appliance, Filter, Why string
				Struck                 bool
			} `json:"decisions"`
		}
		r := l.flix("steer", "explain", "--ip", ip, "--title", "harbor-lights", "-o", "json")
		if r.code != 0 {
			return errors.New(r.story())
		}
		decode(l.t, r, &e)
		for _, d := range e.Decisions {
			if d.Filter == "prefix" && strings.Contains(d.Appliance, "/"+site+"/") && d.Why == want {
				return nil
			}
		}
		return fmt.Errorf("%+v", e.Decisions)
	})
}

func ownRouter(l *lab) {
	l.reached("198.18.0.7", "isp-own", "announces the client, /20")
	l.reached("2001:db8::7", "us-east-ix", "announces the client, /48")
	table := filepath.Join(l.t.TempDir(), "table.txt")
	if err := os.WriteFile(table, []byte("198.18.0.0/24 isp-own 3 9\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.must("steer", "routes", table)
	l.reached("198.18.0.7", "isp-own", "announces the client, /24, 3 networks on the way, MED 9")
	l.must("steer", "routes", "--clear")
	l.reached("198.18.0.7", "isp-own", "announces the client, /20")
	if err := os.WriteFile(table, []byte("198.18.16.0/24 isp-bird\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	wantRefusal(l.t, l.flix("steer", "routes", table), 5, "isp-bird", "not of the lab")
}

func birdRouter(l *lab, port int) {
	t := l.t
	if _, err := exec.LookPath("bird"); err != nil {
		if os.Getenv("FLIX_REQUIRE_BIRD") != "" {
			t.Fatal("bird is not on PATH, and FLIX_REQUIRE_BIRD is set")
		}
		t.Skip("bird is not on PATH")
	}
	const nobody = "inside an ISP that is not the client's"
	l.reached("198.18.16.7", "isp-bird", nobody)
	dir := t.TempDir()
	file, ctl := filepath.Join(dir, "bird.conf"), filepath.Join(dir, "ctl")
	if err := os.WriteFile(file, fmt.Appendf(nil, birdConfig, port), 0o600); err != nil {
		t.Fatal(err)
	}
	bird := exec.Command("bird", "-f", "-c", file, "-s", ctl, "-P", filepath.Join(dir, "pid"))
	if err := bird.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = bird.Process.Kill()
		_ = bird.Wait() // killed
	})
	l.reached("198.18.16.7", "isp-bird", "announces the client, /20, 2 networks on the way, MED 50")
	l.reached("2001:db8:1::7", "isp-bird", "announces the client, /48, 2 networks on the way, MED 50")
	wantSession(l, true)
	if out, err := exec.Command("birdc", "-s", ctl, "disable", "six").CombinedOutput(); err != nil {
		t.Fatalf("birdc: %v: %s", err, out)
	}
	l.reached("2001:db8:1::7", "isp-bird", nobody)
	_ = bird.Process.Kill()
	l.reached("198.18.16.7", "isp-bird", nobody) // after the time that stale routes are kept
	wantSession(l, false)
}

type bgpSession struct {
	Site        string `json:"site"`
	Established bool   `json:"established"`
	Error       string `json:"error"`
}

func wantSession(l *lab, established bool) {
	l.t.Helper()
	var list struct {
		Sessions []bgpSession `json:"sessions"`
	}
	decode(l.t, l.must("steer", "sessions", "-o", "json"), &list)
	i := slices.IndexFunc(list.Sessions, func(s bgpSession) bool { return s.Site == "isp-bird" })
	if i < 0 || list.Sessions[i].Established != established || (list.Sessions[i].Error == "") != established {
		l.t.Errorf("%+v", list)
	}
}
