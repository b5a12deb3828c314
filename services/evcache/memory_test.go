package evcache

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// heapAfter is the live heap after f, less what it was before. What dies while a
// collection runs is found by the next.
func heapAfter(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	least := int64(math.MaxInt64)
	for range 3 {
		runtime.GC()
		runtime.ReadMemStats(&after)
		least = min(least, int64(after.HeapAlloc)-int64(before.HeapAlloc))
	}
	return least
}

// What the items take, overhead and rounding included, is within the limit.
func TestItemsStayWithinTheLimit(t *testing.T) {
	const limit = 16 << 20
	for _, size := range []int{1, 100, 1000, 5000, 40_000, 300_000} {
		l := newLRU(limit, time.Now)
		used := heapAfter(func() {
			for i := range 3 * limit / (size + 200) {
				l.store(entry{key: fmt.Appendf(nil, "application:key-%d", i), value: make([]byte, size)})
			}
		})
		_, items, bytes := l.figures()
		if used > limit*108/100 || bytes > limit || bytes < limit*9/10 {
			t.Errorf("values of %d bytes: %d items count as %d bytes and take %d of %d", size, items, bytes, used, limit)
		}
		runtime.KeepAlive(l)
	}
}

// Many clients that begin to send large values and stop, and many that ask for
// some and do not read, take no more than the limit together.
func TestStalledClientsStayWithinTheLimit(t *testing.T) {
	const limit, clients = 8 << 20, 100
	n := newNode(t, "127.0.0.1:0", limit)
	used := heapAfter(func() {
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				c, err := net.Dial("tcp", n.addr)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = c.Close() })
				if i%2 == 0 { // announces a megabyte and sends half of it
					_, _ = io.WriteString(c, "set k"+fmt.Sprint(i)+" 0 0 1000000\r\n"+strings.Repeat("x", 500_000))
					return
				}
				_, _ = io.WriteString(c, "set v"+fmt.Sprint(i)+" 0 0 900000\r\n"+strings.Repeat("x", 900_000)+"\r\n")
				if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
					return // cut, or refused
				}
				_, _ = io.WriteString(c, strings.Repeat("get v"+fmt.Sprint(i)+"\r\n", 20))
			})
		}
		wg.Wait()
	})
	l := n.server.cache
	l.mu.Lock()
	total := l.used()
	l.mu.Unlock()
	// Connections have buffers and stacks beside.
	if total > limit || used > limit+clients*64<<10 {
		t.Errorf("%d bytes are counted and %d taken, the limit is %d", total, used, limit)
	}
}

// A value that is evicted while it is written out counts until it is written.
func TestPinnedValuesCount(t *testing.T) {
	l := newLRU(1<<20, time.Now)
	big := func(k string) entry { return entry{key: []byte(k), value: make([]byte, 300_000)} }
	l.store(big("a"))
	v, ok := l.get([]byte("a"))
	if !ok || l.pinned != 300_000 {
		t.Fatalf("%v, %d pinned", ok, l.pinned)
	}
	l.delete([]byte("a"), 0)
	if l.leaving == 0 || l.bytes != 0 {
		t.Errorf("%d leaving, %d held", l.leaving, l.bytes)
	}
	for _, k := range []string{"b", "c", "d"} {
		l.store(big(k))
	}
	if l.used() > l.max || len(l.items) != 2 {
		t.Errorf("%d of %d bytes in %d items", l.used(), l.max, len(l.items))
	}
	l.unpin(v)
	if l.leaving != 0 || l.pinned != 0 {
		t.Errorf("%d leaving, %d pinned", l.leaving, l.pinned)
	}
	// Half of the limit may be on its way in and out, one at least.
	if !l.reserve(900_000) || l.reserve(100_000) {
		t.Error("a first value found no room, or a second did")
	}
	l.release(900_000)
	w, ok := l.get([]byte("d"))
	if ok { // the reservation has evicted it
		l.unpin(w)
	}
	l.store(big("e"))
	l.store(big("f"))
	x, _ := l.get([]byte("e"))
	if _, ok := l.get([]byte("f")); ok {
		t.Error("more than half of the limit is on its way out")
	}
	l.flush(0)
	l.unpin(x)
	if l.used() != 0 || l.coming != 0 {
		t.Errorf("%d bytes are left of nothing", l.used())
	}
}
