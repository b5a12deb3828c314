package containers

import (
	"net/netip"
	"testing"

	"github.com/flix-lab/flix/lab/journal"
)

func openJournal(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func reopen(t *testing.T, dir string) *addresses {
	t.Helper()
	a, err := newAddresses(openJournal(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestAddressesAreKept gives addresses out, and again after a restart.
func TestAddressesAreKept(t *testing.T) {
	dir := t.TempDir()
	a := reopen(t, dir)
	if err := a.choose("flix-x", nil); err != nil {
		t.Fatal(err)
	}
	str := must[string](t)
	kv := str(a.of("us-east", "us-east/a/kv/1"))
	agent := str(a.of("us-east", "us-east/agent"))
	west := str(a.of("us-west", "us-west/a/kv/1"))
	if kv == agent || kv == west || str(a.of("us-east", "us-east/a/kv/1")) != kv {
		t.Errorf("kv %s, agent %s, west %s: want three, and the same when asked again", kv, agent, west)
	}
	b := reopen(t, dir)
	if b.subnet != a.subnet || str(b.of("us-west", "us-west/a/kv/1")) != west {
		t.Errorf("after a restart the subnet is %s and was %s", b.subnet, a.subnet)
	}
	blocks, err := b.list()
	if err != nil || len(blocks) != 2 {
		t.Fatalf("blocks %v, %v", blocks, err)
	}
	for _, k := range blocks {
		for region, addr := range map[string]string{"us-east": kv, "us-west": west} {
			if k.Prefix.Contains(netip.MustParseAddr(addr)) != (k.Region == region) {
				t.Errorf("%s of %s and block %s of %s", addr, region, k.Prefix, k.Region)
			}
		}
		if !b.subnet.Contains(k.Prefix.Addr()) || k.Prefix.Contains(b.subnet.Addr()) {
			t.Errorf("block %s in %s: want it inside, and not the engine's first", k.Prefix, b.subnet)
		}
	}
	if err := b.release("us-east/a/kv/1"); err != nil {
		t.Fatal(err)
	}
	if again := str(b.of("us-east", "us-east/b/kv/2")); again != kv {
		t.Errorf("a released address is not given out again: %s, want %s", again, kv)
	}
	if err := b.releaseRegion("us-west"); err != nil {
		t.Fatal(err)
	}
	if err := b.release("us-west/a/kv/1"); err != nil {
		t.Fatal(err)
	}
	if got := str(b.of("eu-west", "eu-west/a/kv/1")); got != west {
		t.Errorf("the block of a region that is gone is not taken again: %s, want %s", got, west)
	}
}

// TestChooseAvoids takes no network that somebody has.
func TestChooseAvoids(t *testing.T) {
	first := reopen(t, t.TempDir())
	if err := first.choose("flix-x", nil); err != nil {
		t.Fatal(err)
	}
	second := reopen(t, t.TempDir())
	taken := []netip.Prefix{first.subnet, netip.MustParsePrefix("10.128.0.0/9")}
	if err := second.choose("flix-x", taken); err != nil {
		t.Fatal(err)
	}
	if overlaps(second.subnet, taken) {
		t.Errorf("%s meets one of %v", second.subnet, taken)
	}
	none := reopen(t, t.TempDir())
	if err := none.choose("flix-x", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err == nil {
		t.Errorf("%s was taken, and all of 10.0.0.0/8 is somebody's", none.subnet)
	}
	loop := reopen(t, t.TempDir())
	if err := loop.chooseLoopback("flix-x"); err != nil {
		t.Fatal(err)
	}
	if !loop.subnet.Addr().IsLoopback() || loop.subnet.Contains(netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("%s: want a block of 127.0.0.0/8 without 127.0.0.1", loop.subnet)
	}
}

func TestBlockRunsOut(t *testing.T) {
	a := reopen(t, t.TempDir())
	if err := a.choose("flix-x", nil); err != nil {
		t.Fatal(err)
	}
	for n := range maxBlocks {
		_, err := a.block(string(rune('a' + n)))
		if (err == nil) != (n < maxBlocks-1) {
			t.Fatalf("block %d: %v", n+1, err)
		}
	}
}

// TestParseRoutes reads a table as the kernel prints it.
func TestParseRoutes(t *testing.T) {
	table := "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" + // the default route hides nothing
		"tun0\t0000100A\t00000000\t0001\t0\t0\t0\t0000F0FF\t0\t0\t0\n" +
		"docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n" + "rubbish\n"
	got := parseRoutes(table)
	want := []netip.Prefix{netip.MustParsePrefix("10.16.0.0/12"), netip.MustParsePrefix("172.17.0.0/16")}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestDamagedJournal names what cannot be read.
func TestDamagedJournal(t *testing.T) {
	j := openJournal(t, t.TempDir())
	if err := j.Put(journal.Address, subnetID, subnetData{"ten dot zero"}); err != nil {
		t.Fatal(err)
	}
	if _, err := newAddresses(j); err == nil {
		t.Error("a subnet that is none was read")
	}
}
