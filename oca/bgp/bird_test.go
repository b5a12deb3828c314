package bgp_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/flix-lab/flix/oca/bgp"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/topology"
)

// birdConfig makes bird a router that announces two prefixes, with a path and a
// discriminator of their own, to the neighbour that connects.
const birdConfig = `
log stderr all;
router id 10.0.0.9;
protocol device {}
protocol static four { ipv4; route 198.18.0.0/20 blackhole; route 198.18.16.0/20 blackhole; }
protocol static six { ipv6; route 2001:db8::/48 blackhole; }
filter far { bgp_path.prepend(65077); bgp_path.prepend(65078); bgp_med = 50; accept; }
filter near { bgp_med = 7; accept; }
protocol bgp appliance {
	local 127.0.0.1 port %d as %d;
	neighbor 127.0.0.1 as %d;
	multihop; passive;
	ipv4 { import none; export filter far; next hop address 192.0.2.1; };
	ipv6 { import none; export filter near; next hop address 2001:db8::1; };
}
`

// TestBird has the stock router for a neighbour.
func TestBird(t *testing.T) {
	if _, err := exec.LookPath("bird"); err != nil {
		if os.Getenv("FLIX_REQUIRE_BIRD") != "" {
			t.Fatal("bird is not on PATH, and FLIX_REQUIRE_BIRD is set")
		}
		t.Skip("bird is not on PATH")
	}
	port := addresstest.Port(t)
	dir := t.TempDir()
	file, control := filepath.Join(dir, "bird.conf"), filepath.Join(dir, "bird.ctl")
	if err := os.WriteFile(file, fmt.Appendf(nil, birdConfig, port, routerAS, applianceAS), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config(applianceAS, routerAS, "10.0.0.1")
	c.Dial = bgp.DialFrom(netip.Addr{}, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	s, _ := start(t, c)

	stop := startBird(t, file, control, filepath.Join(dir, "pid"))
	routes(t, s, "198.18.0.0/20 2 50", "198.18.16.0/20 2 50", "2001:db8::/48 0 7")
	<-s.Whole() // bird marks the end

	birdc(t, control, "disable", "six")
	routes(t, s, "198.18.0.0/20 2 50", "198.18.16.0/20 2 50")

	stop() // and its routes stay
	await(t, func() string {
		if st := s.State(); st.Established || st.Stale != 2 {
			return fmt.Sprintf("%+v", st)
		}
		return ""
	})
	startBird(t, file, control, filepath.Join(dir, "pid"))
	routes(t, s, "198.18.0.0/20 2 50", "198.18.16.0/20 2 50", "2001:db8::/48 0 7")
	if st := s.State(); st.Stale != 0 || st.Sessions != 2 {
		t.Errorf("%+v", st)
	}
}

// birdsConfig makes bird take every speaker of loopback for a neighbour, each with
// an announcement and a session of its own.
const birdsConfig = `
log stderr all;
router id 10.0.0.9;
protocol device {}
protocol static four { ipv4; route 198.18.0.0/20 blackhole; }
filter own { bgp_med = 7; accept; }
protocol bgp appliances {
	local 127.0.0.1 port %d as %d;
	neighbor range 127.0.0.0/8 as %d;
	dynamic name "appliance";
	multihop; passive;
	ipv4 { import none; export filter own; next hop address 192.0.2.1; };
}
`

// TestBirdOfSeveral has one stock router for the neighbour of a site's three
// appliances, which connect from addresses of their own; one that goes leaves the
// others' sessions as they are.
func TestBirdOfSeveral(t *testing.T) {
	if _, err := exec.LookPath("bird"); err != nil {
		t.Skip("bird is not on PATH")
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	port := addresstest.Port(t)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dir := t.TempDir()
	file := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, birdsConfig, port, routerAS, applianceAS), 0o600); err != nil {
		t.Fatal(err)
	}
	router := topology.Router{Address: address}
	var speakers []*bgp.Speaker
	var stops []func()
	for n := 1; n <= 3; n++ {
		c := config(applianceAS, routerAS, fmt.Sprintf("10.0.0.%d", n))
		c.Dial = bgp.DialFrom(router.Source(n), address)
		s, stop := start(t, c)
		speakers, stops = append(speakers, s), append(stops, stop)
	}
	startBird(t, file, filepath.Join(dir, "bird.ctl"), filepath.Join(dir, "pid"))
	for _, s := range speakers {
		routes(t, s, "198.18.0.0/20 0 7")
		<-s.Whole()
	}
	stops[1]()
	for _, n := range []int{0, 2} {
		if st := speakers[n].State(); !st.Established || st.Sessions != 1 {
			t.Errorf("appliance %d after another's end: %+v", n+1, st)
		}
	}
}

func startBird(t *testing.T, file, control, pid string) (stop func()) {
	t.Helper()
	log, err := os.Create(filepath.Join(filepath.Dir(file), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bird", "-f", "-c", file, "-s", control, "-P", pid)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := false
	stop = func() {
		if !done {
			done = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
			log.Close()
			if t.Failed() {
				b, _ := os.ReadFile(log.Name())
				t.Logf("bird: %s", b)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func birdc(t *testing.T, control string, args ...string) {
	t.Helper()
	if out, err := exec.Command("birdc", append([]string{"-s", control}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("birdc %v: %v\n%s", args, err, out)
	}
}
