package steering

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/gaissmai/bart"
)

// some makes a prefix: of few networks, so that many lie in one another.
func some(rng *rand.Rand) netip.Prefix {
	var b [16]byte
	for i := range b {
		b[i] = byte(rng.IntN(4)) << (2 * rng.IntN(4))
	}
	addr, bits := netip.AddrFrom16(b), rng.IntN(129)
	if rng.IntN(2) == 0 {
		addr, bits = netip.AddrFrom4([4]byte(b[:])), rng.IntN(33)
		if bits < base4 && rng.IntN(4) > 0 {
			bits += base4 // one that is in thousands of blocks takes its time
		}
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		panic(err)
	}
	return p
}

// The table agrees with one that is well known, whatever is set and taken out.
func TestPrefixesAgreeWithBart(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	p, ref := newPrefixes(), new(bart.Table[*origin])
	var all []netip.Prefix
	for n := range 20_000 {
		x := some(rng)
		if n%3 == 2 {
			x = all[rng.IntN(len(all))] // known: replaced, taken out, or out already
		}
		all = append(all, x)
		if n%2 == 0 && n > 2000 {
			ref.Delete(x)
			p.set(x, nil)
		} else {
			o := &origin{key: fmt.Sprint(n)}
			ref.Insert(x, o)
			p.set(x, o)
		}
		if n%10 > 0 {
			continue
		}
		if o, _ := ref.Get(x); p.get(x) != o {
			t.Fatalf("%s: get says %v, want %v", x, p.get(x), o)
		}
		addr := some(rng).Addr()
		type found struct {
			bits int
			o    *origin
		}
		var got, want []found
		for bits, o := range p.covering(addr) {
			got = append(got, found{bits, o})
		}
		for pfx, o := range ref.Supernets(netip.PrefixFrom(addr, addr.BitLen())) {
			want = append(want, found{pfx.Bits(), o})
		}
		if !slices.Equal(got, want) {
			t.Fatalf("after %d changes %s is covered by %v, want %v", n+1, addr, got, want)
		}
		for bits, o := range p.covering(addr) { // and it can be left at any point
			if (found{bits, o}) != want[0] {
				t.Fatalf("%s: the first is %d, want %v", addr, bits, want[0])
			}
			break
		}
	}
	if ref.Size4() < 500 || ref.Size6() < 500 {
		t.Errorf("%d and %d prefixes are too few to say much", ref.Size4(), ref.Size6())
	}
}

// Who reads while somebody writes finds what was there before and stays.
func TestPrefixesAreReadWhileTheyChange(t *testing.T) {
	p, stays := newPrefixes(), &origin{key: "stays"}
	home4, home6 := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/40")
	p.set(home4, stays)
	p.set(home6, stays)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, addr := range []string{"10.1.2.3", "2001:db8::1"} {
		a := netip.MustParseAddr(addr)
		wg.Go(func() {
			for {
				var last *origin
				for _, o := range p.covering(a) {
					last = o
				}
				if last != stays {
					t.Errorf("%s: %v", a, last)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for range 20_000 {
		b := byte(rng.IntN(8))
		o := &origin{}
		if rng.IntN(2) == 0 {
			o = nil
		}
		p.set(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, b}), 24).Masked(), o)
		p.set(netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, b}), 48).Masked(), o)
		p.set(netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, byte(rng.IntN(256)), b}), 32).Masked(), o)
	}
	close(stop)
	wg.Wait()
}

// The index of a block finds what a search without it does, also where there are
// more entries than it counts.
func TestIndexOfABlock(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for _, bits := range []uint8{20, 24, 28, 32} {
		b := &block{}
		for i := range 1 << (bits - base4) {
			if bits == 32 && i < 60_000 || rng.IntN(3) > 0 {
				b.entries = append(b.entries, entry{from: uint64(i) << (64 - (bits - base4)), bits: bits})
			}
		}
		if bits == 32 { // a prefix that some of them lie in
			extra := entry{from: 0, bits: 17}
			b.entries = append([]entry{extra}, b.entries...)
			for len(b.entries) <= math.MaxUint16 {
				b.entries = append(b.entries, b.entries[len(b.entries)-1])
			}
		}
		b.nest(base4)
		x, found := indexed(b), 0
		for range 50_000 {
			at := rng.Uint64() & mask(16)
			if got, want := x.find(at), b.find(at, base4); got != want {
				t.Fatalf("/%d, %d entries, %x: %d, want %d", bits, len(b.entries), at, got, want)
			} else if got >= 0 {
				found++
			}
		}
		if found == 0 {
			t.Errorf("/%d: nothing was found", bits)
		}
	}
}
