package player

import (
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/play"
)

type netConn = net.Conn

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

func TestDropCountsBytes(t *testing.T) {
	b := newBuffers()
	if err := b.drop(strings.NewReader("12345"), 5); err != nil {
		t.Error(err)
	}
	if err := b.drop(strings.NewReader("1234"), 5); err != io.ErrUnexpectedEOF {
		t.Errorf("too few: %v", err)
	}
	if err := b.drop(strings.NewReader("123456"), 5); err == nil {
		t.Error("too many bytes pass")
	}
}

// Spares outlast a collection of garbage, and no more of them are kept than that.
func TestSparesAreLentAgain(t *testing.T) {
	made := 0
	s := newSpares(func() *int { made++; return new(int) })
	var lent []*int
	for range maxSpares + 1 {
		lent = append(lent, s.get())
	}
	for _, x := range lent {
		s.put(x)
	}
	runtime.GC()
	runtime.GC()
	for range maxSpares {
		s.get()
	}
	if made != maxSpares+1 {
		t.Errorf("%d made, want %d", made, maxSpares+1)
	}
	if s.get(); made != maxSpares+2 {
		t.Errorf("%d made once more are lent than kept, want %d", made, maxSpares+2)
	}
}

func TestWholeBodies(t *testing.T) {
	const body = "12345"
	for _, length := range []int64{-1, 5, 9} {
		if b, err := whole(strings.NewReader(body), length, 5); string(b) != body || err != nil {
			t.Errorf("length %d: %q, %v", length, b, err)
		}
	}
	if b, err := whole(strings.NewReader(""), 0, 5); len(b) > 0 || err != nil {
		t.Errorf("nothing: %q, %v", b, err)
	}
	for _, length := range []int64{-1, 5} {
		if _, err := whole(strings.NewReader(body), length, 4); services.KindOf(err) != services.Exhausted {
			t.Errorf("length %d, more than is taken: %v", length, err)
		}
	}
	broken := errors.New("broken")
	if _, err := whole(iotest.ErrReader(broken), 5, 5); !errors.Is(err, broken) {
		t.Errorf("a body that breaks off: %v", err)
	}
}

// watched is a connection that looks at the stack of whoever receives from it.
type watched struct {
	net.Conn
	see func()
}

func (c *watched) Read(b []byte) (int, error) { c.see(); return c.Conn.Read(b) }

// TestAPlaysGoroutinesStaySmall looks from below at who connects and receives:
// never a goroutine that lives as long as the play, whose stack would stay as deep.
func TestAPlaysGoroutinesStaySmall(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Light, Head} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLab(t, 8, "isp", "exchange")
				var seen, deep atomic.Int64
				see := func() {
					seen.Add(1)
					stack := string(debug.Stack())
					if strings.Contains(stack, "(*Player).Play(") || strings.Contains(stack, "(*teller).run(") {
						deep.Add(1)
						t.Logf("%s", stack)
					}
				}
				c := l.config()
				dial := c.Dial
				c.Dial = func(region string) services.DialFunc {
					return func(ctx context.Context, network, address string) (net.Conn, error) {
						see()
						conn, err := dial(region)(ctx, network, address)
						if err != nil {
							return nil, err
						}
						return &watched{Conn: conn, see: see}, nil
					}
				}
				o := l.options()
				o.Mode = mode
				if r, err := l.play(t, c, o); err != nil || len(r.Errors) != 0 {
					t.Fatalf("play: %v, errors %q", err, r.Errors)
				}
				if seen.Load() == 0 || deep.Load() != 0 {
					t.Errorf("%d of %d times it was a goroutine that lives as long as the play", deep.Load(), seen.Load())
				}
			})
		})
	}
}

// TestAPlayHoldsWhatItNeeds trims an answer: what is for stock players goes,
// and what a play goes by stays.
func TestAPlayHoldsWhatItNeeds(t *testing.T) {
	r := needed(play.StartReply{
		License: "licence", IndexPath: "index.json", Stock: play.Stock{DASH: "/stock/dash"}, Streams: []play.Stream{{ID: "v1"}}, DASHPath: "manifest.mpd", HLSPath: "master.m3u8",
		Appliances: []play.Appliance{{Name: "a", URL: "https://a/", PlainURL: "http://a/", Pathway: "p"}},
	})
	want := play.StartReply{License: "licence", IndexPath: "index.json", Appliances: []play.Appliance{{Name: "a", URL: "https://a/"}}}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("kept %+v, want %+v", r, want)
	}
}
