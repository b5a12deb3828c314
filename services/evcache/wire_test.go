package evcache

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/telemetry"
)

// clock is a time that a test moves by hand.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// talk runs a session over the bytes of one client and returns the answers.
func talk(s *Server, in string) string {
	var out bytes.Buffer
	_ = newSession(s, strings.NewReader(in), &out).run() // how it ends is not the question
	return out.String()
}

func newTestServer(t testing.TB, max int64, now func() time.Time) *Server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	s, err := NewServer(ServerConfig{Listener: ln, MaxBytes: max, Tel: telemetry.Discard(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTextProtocol(t *testing.T) {
	long := strings.Repeat("k", maxKey+1)
	for _, tc := range []struct{ name, in, out string }{
		{"set get", "set a 5 0 3\r\nabc\r\nget a b\r\n", "STORED\r\nVALUE a 5 3\r\nabc\r\nEND\r\n"},
		{"gets shows the version", "set a 0 0 1\r\nx\r\ngets a\r\n", "STORED\r\nVALUE a 0 1 1\r\nx\r\nEND\r\n"},
		{"bare line feeds", "set a 0 0 1\nx\r\nget a\n", "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"},
		{"noreply", "set a 0 0 1 noreply\r\nx\r\nincr a 1 noreply\r\ndelete a noreply\r\nget a\r\n", "END\r\n"},
		// A web page has a browser speak to the port: no line of it is a command.
		{"HTTP", "set a 0 0 1\r\nx\r\nPOST / HTTP/1.1\r\nflush_all\r\nget a\r\n", "STORED\r\n"},
		{"HTTP in a key", "set a 0 0 1\r\nx\r\nget HTTP/1.1 a\r\n", "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"},
		{"add replace", "add a 0 0 1\r\nx\r\nadd a 0 0 1\r\ny\r\nreplace b 0 0 1\r\nz\r\n", "STORED\r\nNOT_STORED\r\nNOT_STORED\r\n"},
		{"append prepend", "append a 0 0 1\r\nx\r\nset a 1 0 1\r\nm\r\nappend a 9 9 1\r\nz\r\nprepend a 0 0 1\r\na\r\nget a\r\n", "NOT_STORED\r\nSTORED\r\nSTORED\r\nSTORED\r\nVALUE a 1 3\r\namz\r\nEND\r\n"},
		{"cas", "cas a 0 0 1 1\r\nx\r\nset a 0 0 1\r\nx\r\ncas a 0 0 1 9\r\ny\r\ncas a 0 0 1 1\r\nz\r\nget a\r\n", "NOT_FOUND\r\nSTORED\r\nEXISTS\r\nSTORED\r\nVALUE a 0 1\r\nz\r\nEND\r\n"},
		{"cas of version 0", "set a 0 0 1\r\nx\r\ncas a 0 0 1 0\r\ny\r\n", "STORED\r\nEXISTS\r\n"},
		{"incr decr", "set a 0 0 2\r\n10\r\nincr a 5\r\ndecr a 20\r\nincr b 1\r\nset c 0 0 1\r\nx\r\nincr c 1\r\nincr a x\r\n",
			"STORED\r\n15\r\n0\r\nNOT_FOUND\r\nSTORED\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\nCLIENT_ERROR invalid numeric delta argument\r\n"},
		{"incr wraps", "set a 0 0 20\r\n18446744073709551615\r\nincr a 2\r\n", "STORED\r\n1\r\n"},
		{"delete touch", "delete a\r\nset a 0 0 1\r\nx\r\ntouch a 10\r\ntouch b 10\r\ndelete a 0\r\n", "NOT_FOUND\r\nSTORED\r\nTOUCHED\r\nNOT_FOUND\r\nDELETED\r\n"},
		{"gat", "set a 2 0 1\r\nx\r\ngat 100 a b\r\n", "STORED\r\nVALUE a 2 1\r\nx\r\nEND\r\n"},
		{"negative expiry", "set a 0 -1 1\r\nx\r\nget a\r\n", "STORED\r\nEND\r\n"},
		{"flush", "set a 0 0 1\r\nx\r\nflush_all\r\nget a\r\n", "STORED\r\nOK\r\nEND\r\n"},
		{"unknown", "what\r\n\r\nget\r\n", "ERROR\r\nERROR\r\nERROR\r\n"},
		{"bad store", "set a x 0 1\r\nset a 0 0 -1\r\n", badFormat + "\r\n" + badFormat + "\r\n"},
		{"long key", "get " + long + "\r\ndelete " + long + "\r\n", badFormat + "\r\n" + badFormat + "\r\n"},
		{"wrong length", "set a 0 0 1\r\nxyz\r\nget a\r\n", "CLIENT_ERROR bad data chunk\r\nERROR\r\nEND\r\n"},
		{"too large", "set a 0 0 1\r\nx\r\nset a 0 0 1048577\r\n" + strings.Repeat("y", 1048577) + "\r\nget a\r\n", "STORED\r\nSERVER_ERROR object too large for cache\r\nEND\r\n"},
		{"largest item", "set a 0 0 1048516\r\n" + strings.Repeat("y", 1048516) + "\r\n", "STORED\r\n"},
		{"item over the limit with its header", "set a 0 0 1048517\r\n" + strings.Repeat("y", 1048517) + "\r\n", "SERVER_ERROR object too large for cache\r\n"},
		{"item over the limit with its key", "set a 0 0 1048576\r\n" + strings.Repeat("y", 1048576) + "\r\n", "SERVER_ERROR object too large for cache\r\n"},
		{"line too long", "delete " + strings.Repeat("k ", maxLine) + "\r\nversion\r\n", "CLIENT_ERROR line too long\r\n"},
		{"line of a get too long", "get " + strings.Repeat("k ", maxKeysLine) + "\r\nversion\r\n", "CLIENT_ERROR line too long\r\n"},
		{"many keys", "set a 0 0 1\r\nx\r\nget " + strings.Repeat("k ", 5000) + "a\r\n", "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"},
		{"many long keys", "set a 0 0 1\r\nx\r\ngets " + strings.Repeat(long[1:]+" ", 1000) + "a\r\n", "STORED\r\nVALUE a 0 1 1\r\nx\r\nEND\r\n"},
		{"numbers as C reads them", "set a 4294967296 +100 1\r\nx\r\nget a\r\nset a 0 4294967295 1\r\nx\r\nget a\r\nset a 0 0 3\r\n 12\r\ndecr a +3\r\nget a\r\nset a 0 0 2\r\n-1\r\nincr a 1\r\nset a 0 0 2147483646\r\n",
			"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\nSTORED\r\nEND\r\nSTORED\r\n9\r\nVALUE a 0 3\r\n9  \r\nEND\r\nSTORED\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n" + badFormat + "\r\n"},
		{"control characters in a key", "set a\x01\x7f 0 0 1\r\nx\r\nget a\x01\x7f\r\nget a\x00\r\n", "STORED\r\nVALUE a\x01\x7f 0 1\r\nx\r\nEND\r\n" + badFormat + "\r\n"},
		{"appended beyond the limit", "set a 0 0 1048500\r\n" + strings.Repeat("y", 1048500) + "\r\nappend a 0 0 99\r\n" + strings.Repeat("z", 99) + "\r\n", "STORED\r\nNOT_STORED\r\n"},
		{"quit", "version\r\nquit\r\nversion\r\n", "VERSION " + serverVersion + "\r\n"},
		{"verbosity", "verbosity 1\r\nverbosity\r\nverbosity x\r\nverbosity 1 noreply\r\n", "OK\r\nERROR\r\n" + badFormat + "\r\n"},
		{"words that are missing", "touch a\r\nincr a\r\ndelete\r\nset a 0 0\r\ncas a 0 0 1\r\nflush_all 1 2 3\r\n", strings.Repeat("ERROR\r\n", 6)},
		{"refused without a word", "delete a 1 noreply\r\nflush_all x noreply\r\nincr a x noreply\r\nset a 0 0 1 noreply\r\nxy\r\n", "ERROR\r\n"},
		{"stats", "stats reset\r\nstats items\r\nstats what\r\n", "RESET\r\nEND\r\nERROR\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := talk(newTestServer(t, 0, nil), tc.in); got != tc.out {
				t.Errorf("\n got %.300q\nwant %.300q", got, tc.out)
			}
		})
	}
}

func TestMetaProtocol(t *testing.T) {
	for _, tc := range []struct{ name, in, out string }{
		{"set get", "ms a 3 F7 c\r\nabc\r\nmg a v f s k c t Oq\r\nmg b v\r\nmn\r\n", "HD c1\r\nVA 3 f7 s3 ka c1 t-1 Oq\r\nabc\r\nEN\r\nMN\r\n"},
		{"quiet", "ms a 1 q\r\nx\r\nmg b v q\r\nmd b q\r\nmd a\r\nmn\r\n", "HD\r\nMN\r\n"},
		{"modes", "ms a 1 ME\r\nx\r\nms a 1 ME\r\ny\r\nms a 1 MA\r\ny\r\nms a 1 MP\r\nw\r\nmg a v\r\nms b 1 MR\r\nx\r\nms a 1 MX\r\nx\r\n",
			"HD\r\nNS\r\nHD\r\nHD\r\nVA 3\r\nwxy\r\nNS\r\nCLIENT_ERROR invalid mode for ms M token\r\n"},
		{"versions", "ms a 1\r\nx\r\nms a 1 C9\r\ny\r\nmd a C9\r\nmd a C1\r\n", "HD\r\nEX\r\nEX\r\nHD\r\n"},
		{"arithmetic", "ma n\r\nma n N0 J5 v\r\nma n D3 v\r\nma n MD D100 v\r\nma n q\r\nmn\r\n", "NF\r\nVA 1\r\n5\r\nVA 1\r\n8\r\nVA 1\r\n0\r\nMN\r\n"},
		{"base64 key", "ms YSBi 1 b\r\nx\r\nmg YSBi b k v\r\n", "HD\r\nVA 1 kYSBi b\r\nx\r\n"},
		{"too large", "ms a 1\r\nx\r\nms a 1048577 ME\r\n" + strings.Repeat("y", 1048577) + "\r\nmg a v\r\n", "HD\r\nSERVER_ERROR object too large for cache\r\nEN\r\n"},
		{"the last bad token", "mg a Tx Dx\r\nmg a Tx Z\r\nms a 1 MSS\r\nx\r\nma a t c k\r\n", "CLIENT_ERROR invalid numeric delta value\r\nCLIENT_ERROR invalid flag\r\nCLIENT_ERROR incorrect length for M token\r\nNF ka\r\n"},
		{"recache of all of its time", "ms a 1\r\nx\r\nmg a R30 T30 t\r\nmg a R30 t\r\n", "HD\r\nHD t30\r\nHD t30\r\n"},
		{"touch on get", "ms a 1\r\nx\r\nmg a T30 t\r\n", "HD\r\nHD t30\r\n"},
		{"bad", "mg\r\nmg a Zz\r\nms a x\r\nms a 3 Zz\r\nabc\r\nmn\r\n", "ERROR\r\nCLIENT_ERROR invalid flag\r\n" + badFormat + "\r\nCLIENT_ERROR invalid flag\r\nMN\r\n"},
		{"use", "ms a 1\r\nx\r\nmg a h\r\nmg a h l\r\n", "HD\r\nHD h0\r\nHD h1 l0\r\n"},
		{"one makes it", "mg a N30 v t k\r\nmg a v\r\nms a 1\r\nx\r\nmg a v\r\n", "VA 0 t30 ka W\r\n\r\nVA 0 Z\r\n\r\nHD\r\nVA 1\r\nx\r\n"},
		{"stale", "ms a 1\r\nx\r\nmd a I T30 C9\r\nmd a I T30\r\nmg a v t\r\nmg a v\r\nms a 1\r\ny\r\nmg a v\r\n", "HD\r\nEX\r\nHD\r\nVA 1 t30 X W\r\nx\r\nVA 1 Z X\r\nx\r\nHD\r\nVA 1\r\ny\r\n"},
		{"an older version", "ms a 1 T30\r\nx\r\nms a 1 T30\r\ny\r\nms a 1 C1\r\nz\r\nms a 1 T90 C1 I\r\nz\r\nmg a v t\r\nmg a v\r\nms a 1 C9 I\r\nw\r\nms a 1 C3 I\r\nw\r\nmg a v\r\n",
			"HD\r\nHD\r\nEX\r\nHD\r\nVA 1 t30 X W\r\nz\r\nVA 1 Z X\r\nz\r\nEX\r\nHD\r\nVA 1\r\nw\r\n"},
		{"recache", "ms a 1 T30\r\nx\r\nmg a R10\r\nmg a R40\r\nmg a R40\r\n", "HD\r\nHD\r\nHD W\r\nHD Z\r\n"},
		{"time of arithmetic", "ma n N30 J1 t v\r\nma n T60 t\r\n", "VA 1 t30\r\n1\r\nHD t60\r\n"},
		{"miss repeats", "mg a k O1 c\r\nmd a k O2\r\n", "EN ka O1\r\nNF ka O2\r\n"},
		{"flags twice", "mg a v v\r\nmd a q q\r\nmg a O0123456789012345678901234567890\r\nmg a O01234567890123456789012345678901\r\nmg ! b\r\nmg a Tx\r\n",
			"CLIENT_ERROR duplicate flag\r\nCLIENT_ERROR invalid or duplicate flag\r\nEN O0123456789012345678901234567890\r\nCLIENT_ERROR opaque token too long\r\nCLIENT_ERROR error decoding key\r\nCLIENT_ERROR bad token in command line format\r\n"},
		{"debug", "ms a 1\r\nx\r\nme a\r\nme b\r\n", "HD\r\nME a exp=-1 la=0 cas=1 fetch=no size=194\r\nEN\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// The clock stands: "t" would lose a second otherwise.
			c := &clock{time.Unix(1_700_000_000, 0)}
			if got := talk(newTestServer(t, 0, c.now), tc.in); got != tc.out {
				t.Errorf("\n got %q\nwant %q", got, tc.out)
			}
		})
	}
}

// A command is answered when it is there, whatever part of the next one came
// with it: a client may wait for the answer before it sends the rest.
func TestAnswersDoNotWaitForTheNextCommand(t *testing.T) {
	noop := string([]byte{binaryRequest, 0x0a}) + strings.Repeat("\x00", 22)
	for name, tc := range map[string]struct{ first, answer, rest, last string }{
		"text":       {"get a\r\nversi", "END\r\n", "on\r\n", "VERSION " + serverVersion + "\r\n"},
		"data block": {"get a\r\nset a 0 0 3\r\na", "END\r\n", "bc\r\n", "STORED\r\n"},
		"large":      {"get a\r\nset a 0 0 9000\r\n" + strings.Repeat("a", 5000), "END\r\n", strings.Repeat("a", 4000) + "\r\n", "STORED\r\n"},
		"meta":       {"mg a v\r\nm", "EN\r\n", "n\r\n", "MN\r\n"},
		"binary":     {noop + noop[:2], "\x81" + noop[1:], noop[2:], "\x81" + noop[1:]},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, 0, nil)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- s.Serve(ctx) }()
			defer func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}()
			client, err := net.Dial("tcp", s.ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_ = client.SetDeadline(time.Now().Add(time.Minute)) // an answer that does not come fails by it
			for _, step := range [][2]string{{tc.first, tc.answer}, {tc.rest, tc.last}} {
				if _, err := io.WriteString(client, step[0]); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(step[1]))
				if _, err := io.ReadFull(client, got); err != nil || string(got) != step[1] {
					t.Fatalf("to %.40q: %q, %v", step[0], got, err)
				}
			}
		})
	}
}

func TestExpiry(t *testing.T) {
	c := &clock{time.Unix(1_700_000_000, 0)}
	s := newTestServer(t, 0, c.now)
	talk(s, "set rel 0 10 1\r\nx\r\nset abs 0 1700000020 1\r\nx\r\nset past 0 1600000000 1\r\nx\r\nset month 0 2592000 1\r\nx\r\nset ever 0 0 1\r\nx\r\n")
	for _, step := range []struct {
		at   int64
		live string
	}{{0, "rel abs month ever"}, {9, "rel abs month ever"}, {10, "abs month ever"}, {20, "month ever"}, {2592000, "ever"}} {
		c.t = time.Unix(1_700_000_000+step.at, 0)
		var live []string
		for _, k := range []string{"rel", "abs", "past", "month", "ever"} {
			if strings.HasPrefix(talk(s, "get "+k+"\r\n"), "VALUE") {
				live = append(live, k)
			}
		}
		if got := strings.Join(live, " "); got != step.live {
			t.Errorf("after %d s: %s, want %s", step.at, got, step.live)
		}
	}
}

func TestDelayedFlush(t *testing.T) {
	c := &clock{time.Unix(1_700_000_000, 0)}
	s := newTestServer(t, 0, c.now)
	talk(s, "set a 0 0 1\r\nx\r\nflush_all 10\r\n")
	c.t = c.t.Add(9 * time.Second)
	if out := talk(s, "get a\r\n"); out == "END\r\n" {
		t.Error("the flush came early")
	}
	c.t = c.t.Add(2 * time.Second)
	if out := talk(s, "get a\r\nset b 0 0 1\r\ny\r\nget b\r\n"); out != "END\r\nSTORED\r\nVALUE b 0 1\r\ny\r\nEND\r\n" {
		t.Errorf("after the flush: %q", out)
	}
}

// bin builds a binary request.
func bin(op opcode, opaque uint32, cas uint64, extras, key, value string) string {
	h := make([]byte, binaryHeader)
	h[0], h[1], h[4] = binaryRequest, byte(op), byte(len(extras))
	binary.BigEndian.PutUint16(h[2:], uint16(len(key)))
	binary.BigEndian.PutUint32(h[8:], uint32(len(extras)+len(key)+len(value)))
	binary.BigEndian.PutUint32(h[12:], opaque)
	binary.BigEndian.PutUint64(h[16:], cas)
	return string(h) + extras + key + value
}

// binAnswer is one response.
type binAnswer struct {
	op                 opcode
	status             binaryStatus
	opaque             uint32
	extras, key, value string
}

func binAnswers(t *testing.T, out string) []binAnswer {
	t.Helper()
	var all []binAnswer
	for len(out) > 0 {
		if len(out) < binaryHeader || out[0] != binaryResponse {
			t.Fatalf("not a response: %q", out)
		}
		h := []byte(out[:binaryHeader])
		n := int(binary.BigEndian.Uint32(h[8:]))
		e, k := int(h[4]), int(binary.BigEndian.Uint16(h[2:]))
		body := out[binaryHeader : binaryHeader+n]
		all = append(all, binAnswer{opcode(h[1]), binaryStatus(binary.BigEndian.Uint16(h[6:])), binary.BigEndian.Uint32(h[12:]), body[:e], body[e : e+k], body[e+k:]})
		out = out[binaryHeader+n:]
	}
	return all
}

func TestBinaryProtocol(t *testing.T) {
	set := "\x00\x00\x00\x07\x00\x00\x00\x00"
	incr := strings.Repeat("\x00", 7) + "\x05" + strings.Repeat("\x00", 7) + "\x02" + "\x00\x00\x00\x00"
	in := bin(opSet, 1, 0, set, "a", "abc") +
		bin(opGet, 2, 0, "", "a", "") +
		bin(opGetK, 3, 0, "", "a", "") +
		bin(opGetQ, 4, 0, "", "none", "") + // a quiet miss
		bin(opAdd, 5, 0, set, "a", "x") +
		bin(opReplace, 6, 0, set, "none", "x") +
		bin(opAppendQ, 7, 0, "", "a", "d") + // a quiet success
		bin(opSet, 8, 99, set, "a", "x") +
		bin(opIncrement, 9, 0, incr, "n", "") +
		bin(opIncrement, 10, 0, incr, "n", "") +
		bin(opTouch, 11, 0, "\x00\x00\x00\x10", "a", "") +
		bin(opGAT, 12, 0, "\x00\x00\x00\x10", "a", "") +
		bin(opDelete, 13, 0, "", "a", "") +
		bin(opDelete, 14, 0, "", "a", "") +
		bin(opVersion, 15, 0, "", "", "") +
		bin(0x7f, 16, 0, "", "", "") +
		bin(opSet, 17, 0, "", "a", "no extras") +
		bin(opNoop, 18, 0, "", "", "") +
		bin(opQuit, 19, 0, "", "", "") +
		bin(opNoop, 20, 0, "", "", "")
	type row struct {
		opaque uint32
		status binaryStatus
		value  string
	}
	wantRows := []row{{1, binOK, ""}, {2, binOK, "abc"}, {3, binOK, "abc"}, {5, binExists, "*"}, {6, binNotFound, "*"}, {8, binExists, "*"},
		{9, binOK, "\x00\x00\x00\x00\x00\x00\x00\x02"}, {10, binOK, "\x00\x00\x00\x00\x00\x00\x00\x07"}, {11, binOK, ""}, {12, binOK, "abcd"},
		{13, binOK, ""}, {14, binNotFound, "*"}, {15, binOK, serverVersion}, {16, binUnknown, "*"}, {17, binInvalid, "*"}, {18, binOK, ""}, {19, binOK, ""}}
	got := binAnswers(t, talk(newTestServer(t, 0, nil), in))
	if len(got) != len(wantRows) {
		t.Fatalf("%d answers, want %d: %+v", len(got), len(wantRows), got)
	}
	for i, w := range wantRows {
		g := got[i]
		if g.opaque != w.opaque || g.status != w.status || w.value != "*" && g.value != w.value {
			t.Errorf("answer %d: %+v, want %+v", i, g, w)
		}
	}
	if got[2].key != "a" || got[1].extras != "\x00\x00\x00\x07" {
		t.Errorf("key %q or flags %q are missing", got[2].key, got[1].extras)
	}
}

// The binary protocol can name any key, touches tell the flags, and what gat ends
// is answered a last time.
func TestBinaryKeysAndTouches(t *testing.T) {
	const past = "\x40\x00\x00\x00" // in the year 2004
	key, set := "a b\r\n\x00\xff", "\x00\x00\x00\x07\x00\x00\x00\x00"
	got := binAnswers(t, talk(newTestServer(t, 0, nil), bin(opSet, 1, 0, set, key, "abc")+
		bin(opGetK, 2, 0, "", key, "")+
		bin(opTouch, 3, 0, "\x00\x00\x00\x10", key, "")+
		bin(opGATK, 4, 0, past, key, "")+
		bin(opGet, 5, 0, "", key, "")+
		bin(opSet, 6, 0, set, strings.Repeat("k", maxKey+1), "abc")))
	want := []binAnswer{
		{op: opSet, opaque: 1},
		{op: opGetK, opaque: 2, extras: set[:4], key: key, value: "abc"},
		{op: opTouch, opaque: 3, extras: set[:4]},
		{op: opGATK, opaque: 4, extras: set[:4], key: key, value: "abc"},
		{op: opGet, opaque: 5, status: binNotFound, value: "Not found"},
		{op: opSet, opaque: 6, status: binInvalid, value: "Invalid arguments"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

// A get that is longer than a line takes its room of the cache, and gives it
// back however it ends.
func TestLongGetsGiveTheirRoomBack(t *testing.T) {
	s := newTestServer(t, 0, nil)
	for _, in := range []string{
		"get " + strings.Repeat("k ", maxLine) + "\r\n",
		"get " + strings.Repeat("k ", maxLine), // and no end
		"get " + strings.Repeat("k ", maxKeysLine) + "\r\n",
	} {
		talk(s, in)
		if s.cache.coming != 0 {
			t.Errorf("%d bytes are kept after %.20q…", s.cache.coming, in)
		}
	}
	if got := talk(newTestServer(t, maxLine, nil), "get "+strings.Repeat("k ", maxLine)+"\r\nmn\r\n"); got != "SERVER_ERROR out of memory reading request\r\n" {
		t.Errorf("a cache without the room answers %q", got)
	}
}

func TestDecrementsAreCounted(t *testing.T) {
	got := talk(newTestServer(t, 0, nil), "set n 0 0 1\r\n5\r\ndecr n 1\r\ndecr n 1\r\ndecr m 1\r\nincr n 1\r\nstats\r\n")
	for _, want := range []string{"STAT decr_hits 2\r\n", "STAT decr_misses 1\r\n", "STAT incr_hits 1\r\n", "STAT incr_misses 0\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

func TestBinaryStats(t *testing.T) {
	names := map[string]string{}
	for _, a := range binAnswers(t, talk(newTestServer(t, 0, nil), bin(opStat, 1, 0, "", "", ""))) {
		names[a.key] = a.value
	}
	for _, name := range []string{"pid", "uptime", "version", "cmd_get", "curr_items", "limit_maxbytes", "evictions", "threads", ""} {
		if _, ok := names[name]; !ok {
			t.Errorf("no %q among the statistics", name)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	const limit = 1 << 20
	s := newTestServer(t, limit, nil)
	var in bytes.Buffer
	value := strings.Repeat("v", 1000)
	for i := range 5000 {
		in.WriteString("set key-" + string(rune('a'+i%26)) + strings.Repeat("x", i%40) + "-" + time.Duration(i).String() + " 0 0 1000 noreply\r\n" + value + "\r\n")
		in.WriteString("get keep\r\n")
		if i == 0 {
			in.WriteString("set keep 0 0 4 noreply\r\nhere\r\n")
		}
	}
	out := talk(s, in.String())
	c, items, size := s.cache.figures()
	if size > limit || size < limit/2 {
		t.Errorf("%d bytes held, the bound is %d", size, limit)
	}
	var real int64
	for _, it := range s.cache.items {
		real += it.size()
	}
	if real != size {
		t.Errorf("the items have %d bytes and %d are counted", real, size)
	}
	if c.evictions == 0 || int(c.evictions)+items != 5001 {
		t.Errorf("%d evictions and %d items do not make 5001", c.evictions, items)
	}
	if !strings.HasSuffix(out, "VALUE keep 0 4\r\nhere\r\nEND\r\n") {
		t.Error("the item used all the time was evicted")
	}
}

func TestIdleConnectionsEndWithTheServer(t *testing.T) {
	n := newNode(t, "127.0.0.1:0", 0)
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "version\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	n.stop()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived the server")
	}
}

func FuzzTextSession(f *testing.F) {
	f.Add("set a 5 0 3\r\nabc\r\nget a b\r\ngets a\r\n")
	f.Add("cas a 0 0 1 1 noreply\r\nx\r\nincr a 1\r\ntouch a 1\r\ngat 1 a\r\nflush_all 1 noreply\r\nstats settings\r\n")
	f.Add("ms a 3 F7 c T9 I q\r\nabc\r\nmg a v f s k c t\r\nma a N0 J1\r\nmd a q\r\nme a\r\nmn\r\n")
	f.Add("append a 0 0 0\r\n\r\ndelete a 0 noreply\r\nverbosity 1\r\nquit\r\n")
	f.Fuzz(fuzzSession)
}

func FuzzBinarySession(f *testing.F) {
	f.Add(bin(opSet, 1, 0, "\x00\x00\x00\x07\x00\x00\x00\x00", "a", "abc") + bin(opGetKQ, 2, 0, "", "a", ""))
	f.Add(bin(opIncrement, 1, 0, strings.Repeat("\x01", 20), "n", "") + bin(opStat, 2, 0, "", "settings", "") + bin(opFlushQ, 3, 0, "\x00\x00\x00\x01", "", ""))
	f.Add(bin(opGATK, 1, 0, "\x00\x00\x00\x01", "a", "") + bin(opAppend, 2, 7, "", "a", "x") + bin(opQuitQ, 3, 0, "", "", ""))
	f.Fuzz(func(t *testing.T, in string) { fuzzSession(t, "\x80"+in) })
}

// fuzzSession runs any bytes through a small server: it must neither panic
// nor lose count of its memory.
func fuzzSession(t *testing.T, in string) {
	c := &clock{time.Unix(1_700_000_000, 0)}
	s := &Server{cache: newLRU(4096, c.now), now: c.now, started: c.t}
	talk(s, "set a 0 0 1\r\n1\r\n"+in)
	talk(s, in)
	_, items, size := s.cache.figures()
	var real int64
	n := 0
	for it := s.cache.head.next; it != &s.cache.head; it = it.next {
		real += it.size()
		n++
	}
	if size > 4096 || real != size || n != items {
		t.Errorf("%d bytes in %d items, counted %d in %d", real, n, size, items)
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add("VALUE k 0 3\r\nabc\r\nEND\r\n", int8(kindGet))
	f.Add("END\r\n", int8(kindGet))
	f.Add("STORED\r\n", int8(kindSet))
	f.Add("NOT_FOUND\r\n", int8(kindDelete))
	f.Add("SERVER_ERROR out of memory\r\n", int8(kindSet))
	f.Add("VA 3 f7 t-1\r\nabc\r\n", int8(kindMeta))
	f.Fuzz(func(t *testing.T, in string, k int8) {
		c := command{kind: kind(k)}
		err := c.read(bufio.NewReader(strings.NewReader(in)))
		if err == nil && len(c.out.value) > len(in) {
			t.Errorf("%d bytes out of %d", len(c.out.value), len(in))
		}
	})
}

func BenchmarkGet(b *testing.B) {
	n := newNode(b, "127.0.0.1:0", 0)
	c := newClient(b, Config{Zone: "a", Prefix: "app"}, Node{Addr: n.addr, Zone: "a"})
	if err := c.Set(b.Context(), "key", bytes.Repeat([]byte("v"), 1000), 0); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Get(b.Context(), "key"); err != nil {
			b.Fatal(err)
		}
	}
}
