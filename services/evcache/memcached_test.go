package evcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/addresstest"
)

// TestAsMemcached gives a memcached and this server the same inputs and
// compares every byte of the answers, but for versions and ages.
func TestAsMemcached(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: memcached is not run")
	}
	bin, err := exec.LookPath("memcached")
	if err != nil {
		t.Skip("memcached is not on PATH: apt-get install memcached")
	}
	theirs, ours := startMemcached(t, bin), newTestServer(t, 0, nil)
	for _, in := range edgeInputs() {
		in = "flush_all\r\nset a 5 0 3\r\nabc\r\nset n 0 0 2\r\n10\r\n" + in + "mn\r\n"
		their, our := withoutVersions(exchange(t, theirs, in)), withoutVersions(talk(ours, in))
		if their != our {
			t.Errorf("%.120q\n  memcached %.200q\n  ours      %.200q", in[len("flush_all\r\nset a 5 0 3\r\nabc\r\nset n 0 0 2\r\n10\r\n"):], their, our)
		}
	}
}

// startMemcached returns the address of one that ends with the test.
func startMemcached(t *testing.T, bin string) string {
	t.Helper()
	host, port := "127.0.0.1", fmt.Sprint(addresstest.Port(t))
	addr := net.JoinHostPort(host, port)
	args := []string{"-l", host, "-p", port, "-U", "0", "-m", "64"}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "root")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	for end := time.Now().Add(30 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		if time.Now().After(end) {
			t.Fatalf("memcached does not listen: %v", err)
		}
		pause := time.NewTimer(5 * time.Millisecond)
		<-pause.C
	}
}

// exchange sends the input on a connection of its own and returns all answers.
func exchange(t *testing.T, addr, in string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, in); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute)) // an answer that does not come fails by it
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatalf("%.100q: %v after %.200q", in, err, b)
	}
	return string(b)
}

var (
	versionFlag = regexp.MustCompile(` c[0-9]+`)
	versionWord = regexp.MustCompile(`(?m)^(VALUE \S+ [0-9]+ [0-9]+) [0-9]+`)
	debugWords  = regexp.MustCompile(`(?m)^(ME \S+).*\r$`)
	whole       = regexp.MustCompile(`(?m)^VERSION .*\r$`)
)

// withoutVersions is an answer without what tells two servers apart.
func withoutVersions(s string) string {
	s = versionFlag.ReplaceAllString(s, " c")
	s = versionWord.ReplaceAllString(s, "$1")
	s = debugWords.ReplaceAllString(s, "$1\r")
	return whole.ReplaceAllString(s, "VERSION\r")
}

// edgeInputs are commands at the edges of the protocol. They leave out where
// this server departs from memcached on purpose: NUL and carriage return in
// keys, a get of a key that is too long (memcached 1.6.18 takes back the answers
// before it), statistics and settings of memcached's own memory, "md q" of a key
// that is not there, which is silent as its documentation says, and "ma q" of a
// key that it makes.
func edgeInputs() []string {
	full, long := strings.Repeat("k", maxKey), strings.Repeat("k", maxKey+1)
	var out []string
	for _, line := range []string{
		"get a", "get", "get a b", "gets a", "gets a a", "get " + full, "get  a", "GET a", " get a", "get a ",
		"gat 0 a", "gats 0 a", "gat", "gat x a", "gats x a", "gat -1 a", "gat 0 a b",
		"touch a 0", "touch a", "touch", "touch a x", "touch zz 0", "touch a 0 noreply", "touch a 0 foo", "touch a 0 noreply x", "touch a -1", "touch " + long + " 0",
		"delete a", "delete zz", "delete", "delete a 0", "delete a 1", "delete a 0 noreply", "delete a noreply", "delete a foo", "delete a 0 foo", "delete a 0 0", "delete a 1 noreply",
		"incr n 5", "incr n", "incr", "incr a 1", "incr zz 1", "incr n x", "incr n -1", "incr n 18446744073709551615", "incr n 18446744073709551616", "incr n 1 noreply", "incr n 1 foo", "incr n 1 2 3",
		"decr n 50", "decr n 10", "decr a 1", "decr zz 1", "decr n x", "decr n",
		"verbosity", "verbosity 1", "verbosity 1 noreply", "verbosity x", "version", "version x",
		"flush_all", "flush_all 0", "flush_all noreply", "flush_all 0 noreply", "flush_all x", "flush_all -1", "flush_all 0 x", "flush_all x noreply", "flush_all 1 2 3",
		"bogus", "", "shutdown", "mn", "mn x", "mg", "mg a", "mg a v", "mg a f s t c k O1", "mg zz", "mg zz v q", "mg zz k O1", "mg zz k O1 b", "mg " + long + " v", "mg " + full + " v",
		"mg a z", "mg a v v", "mg a vv", "mg a O", "mg a O" + strings.Repeat("x", 31), "mg a O" + strings.Repeat("x", 32), "mg a T30 t", "mg a Tx", "mg a T", "mg a h l t", "mg a v h", "mg a l",
		"mg zz N30 v t", "mg zz N30 v c", "mg zz Nx", "mg zz N", "mg zz N0 t", "mg YQ== b v", "mg ! b v", "mg a b v", "mg a E5", "mg a R30", "mg a R30 W t", "mg a M", "mg a q", "mg a k q", "mg a F5",
		"md", "md a", "md zz", "md a q", "md a k O1", "md zz k O9", "md a C1", "md a C0", "md a Cx", "md a I", "md a I T30", "md a x", "md a z", "md YQ== b k", "md YQ== b", "md a b", "md a v", "md a f s", "md a q k",
		"ma", "ma n", "ma n v", "ma n D5 v", "ma n MD v", "ma n M- D3 v t", "ma n M+ v", "ma n Mz", "ma n M", "ma zz", "ma zz N0 J5 v", "ma zz N30 J7 v t c", "ma zz J5", "ma a", "ma n Dx", "ma n q", "ma n q v", "ma zz q",
		"ma n v k O1 t c", "ma n T30 t v", "ma n C0", "ma n C1", "ma n z", "ma n Jx", "ma bg== b v k", "ma n f s v", "me", "me a", "me zz", "me YQ== b", "ms", "ms a", "ms a x", "ms a -1", "ms a S3",
	} {
		out = append(out, line+"\r\n")
	}
	return append(out,
		"set b 0 0 3\r\nabc\r\n", "set b 0 0 3\r\nab\r\n", "set b 0 0 3\r\nabcd\r\n", "set b 0 0 3\r\nabcdef\r\n", "set b 0 0 0\r\n\r\n", "set b 0 0 -1\r\nabc\r\n", "set b 0 0 x\r\nabc\r\n", "set b x 0 3\r\nabc\r\n", "set b -1 0 3\r\nabc\r\n",
		"set b 4294967295 0 1\r\na\r\n", "set b 0 x 3\r\nabc\r\n", "set b 0 -1 3\r\nabc\r\nget b\r\n", "set b 0 0 3 noreply\r\nabc\r\nget b\r\n", "set b 0 0 3 foo\r\nabc\r\n", "set b 0 0 3 noreply x\r\nabc\r\n", "set b 0 0\r\n", "set b\r\n", "set\r\n",
		"set "+full+" 0 0 1\r\na\r\n", "set "+long+" 0 0 1\r\na\r\n", "set a 0 0 2000000\r\n"+strings.Repeat("x", 2000000)+"\r\nget a\r\n", "set b 0 0 3 noreply\r\nab\r\n", "set b 0 0 3 noreply\r\nabcd\r\n",
		"add a 0 0 1\r\nx\r\n", "replace a 1 0 1\r\nx\r\nget a\r\n", "append a 9 9 1\r\nx\r\nget a\r\n", "prepend b 0 0 1\r\nx\r\n", "cas a 0 0 1 0\r\nx\r\n", "cas a 0 0 1 999999999\r\nx\r\n", "cas b 0 0 1 1\r\nx\r\n", "cas a 0 0 1 x\r\nx\r\n", "cas a 0 0 1\r\nx\r\n", "cas a 0 0 1 1 foo\r\nx\r\n",
		"ms b 3\r\nabc\r\n", "ms Yg== 3 b k\r\nabc\r\nmg b v\r\n", "ms Yg== 3 b\r\nabc\r\n", "ms b 3 T30 F7 t f s c k O1\r\nabc\r\nmg b v t f\r\n", "ms b 3 q k\r\nabc\r\n", "ms b 2\r\nabc\r\n", "ms b 4\r\nabc\r\nx", "ms b 3 Z\r\nabc\r\n", "ms b 3 Mz\r\nabc\r\n", "ms b 3 M\r\nabc\r\n",
		"ms a 3 ME\r\nabc\r\n", "ms b 3 MR\r\nabc\r\n", "ms a 1 MA\r\nx\r\nmg a v\r\n", "ms b 1 MA\r\nx\r\n", "ms b 1 MA N30 T60\r\nx\r\nmg b v t\r\n", "ms b 3 Tx\r\nabc\r\n", "ms a 3 C0\r\nabc\r\n", "ms a 3 C999999999 I\r\nabc\r\n", "ms a 1 T90\r\nx\r\nms a 3 T30 C1 I\r\nabc\r\nmg a v t\r\nmg a v\r\nms a 1 C1 I\r\ny\r\nmg a v\r\nms a 1\r\nz\r\nmg a v\r\n", "ms a 1 C1 I MA\r\nx\r\nmg a v t\r\n", "ms zz 1 C1 I\r\nx\r\n", "ms a 1 C1 I MR\r\nx\r\nmg a v t\r\n", "ms a 1 C1 I MP\r\nx\r\n", "ms a 1 C1 I ME\r\nx\r\nmg a v\r\n", "ms a 3 Cx\r\nabc\r\n", "ms b 3 T-1\r\nabc\r\nmg b v\r\n", "ms ! 3 b\r\nabc\r\n",
		"ms b 3 O"+strings.Repeat("x", 32)+"\r\nabc\r\n", "ms b 3 k k\r\nabc\r\n", "gets a\r\nset a 1 0 1\r\nz\r\ngets a\r\n", "touch a 100\r\nmg a t\r\n", "gat 100 a\r\nmg a t\r\n",
		"mg zz N30 v\r\nmg zz v\r\nms zz 1\r\nx\r\nmg zz v\r\n", "mg zz N30 v c t k\r\nmg zz v k\r\nmg zz t\r\n", "md a I T30\r\nmg a v t\r\nmg a v c\r\nms a 1\r\ny\r\nmg a v\r\n", "md a I\r\nmg a s\r\nmg a s\r\n", "ms a 1 T30\r\nx\r\nmg a R10 t\r\nmg a R40\r\nmg a R40\r\n",
		// Numbers are C's: signs, blanks, and what is left in 32 bits.
		"set b 4294967296 0 1\r\nx\r\nget b\r\n", "set b +7 0 1\r\nx\r\nget b\r\n", "set b 0 -2147483649 1\r\nx\r\nmg b v\r\n", "set b 0 2147483648 1\r\nx\r\nget b\r\n", "set b 0 4294967295 1\r\nx\r\nget b\r\n", "set b 0 4294967296 1\r\nx\r\nmg b t\r\n",
		"set b 0 9223372036854775808 1\r\nx\r\n", "set b 0 0 2147483646\r\n", "set b 0 0 4294967297\r\nx\r\nget b\r\n", "touch a 4294967295\r\nget a\r\n", "gat 4294967295 a\r\nget a\r\n", "ms b 1 T4294967295\r\nx\r\nmg b\r\n", "ms b 1 F4294967296\r\nx\r\nmg b f\r\n", "mg zz N4294967297 t\r\n",
		"incr n +5\r\n", "decr n -0\r\n", "ma n D+5 v\r\n", "set n 0 0 3\r\n 12\r\nincr n 1\r\nget n\r\n", "set n 0 0 6\r\n12 abc\r\nincr n 1\r\nget n\r\n", "set n 0 0 2\r\n-1\r\nincr n 1\r\n", "set n 0 0 2\r\n1\x00\r\nincr n 1\r\nget n\r\n",
		// A shorter number is written into the place of the longer.
		"decr n 1\r\nget n\r\nincr n 1\r\nget n\r\ndecr n 9\r\nma n MD D1 v\r\nmg n v s\r\n", "set n 0 0 20\r\n18446744073709551615\r\nincr n 1\r\nget n\r\n",
		"set c\x01\t\x7f 0 0 1\r\nx\r\nget c\x01\t\x7f\r\nmg c\x01\t\x7f k v\r\ndelete c\x01\t\x7f\r\n",
		"get "+strings.Repeat("zz ", 2000)+"a\r\n", "gets "+strings.Repeat(full+" ", 1000)+"a\r\n",
		"bget a\r\n", "gat 0\r\n", "gat x\r\n", "verbosity 1 2 3\r\n", "delete a 0 noreply x\r\n",
		"set b 0 0 1048000\r\n"+strings.Repeat("x", 1048000)+"\r\nappend b 0 0 1000\r\n"+strings.Repeat("y", 1000)+"\r\nmg b s\r\n",
		"ms a 2000000\r\n"+strings.Repeat("x", 2000000)+"\r\nget a\r\n", "ms a 2000000 ME\r\n"+strings.Repeat("x", 2000000)+"\r\nget a\r\n",
		"ms "+long+" 1\r\nx\r\n", "ms "+strings.Repeat("AAAA", 63)+" 1 b\r\nx\r\n", "mg "+strings.Repeat("AAAA", 63)+" b\r\n", "me "+strings.Repeat("AAAA", 63)+" b\r\n",
		"ma zz t c\r\n", "ma n C1 t c k\r\n", "ms a 1 MSS\r\nx\r\n", "ms a 1 Ms\r\nx\r\n", "ma n Mi v\r\n", "mg a Dx\r\n", "mg a Jx\r\n", "mg a Tx Z\r\n", "mg a Tx Fx\r\n", "mg a Fx Dx\r\n", "mg a Fx\r\n", "ms a 1 Fx\r\nx\r\n", "md a O"+strings.Repeat("x", 32)+"\r\n", "mg a R30 T30 t\r\nmg a R30 t\r\n",
		"set x 0 -1 1\r\na\r\nadd x 0 0 1\r\nb\r\nget x\r\n", "incr n 90\r\nget n\r\n", "set n 0 0 0\r\n\r\nincr n 1\r\n", "set n 0 0 21\r\n184467440737095516150\r\nincr n 1\r\n", "mg a h\r\nmg a h\r\nmg a h l\r\n", "get a\nget a\r\n", "set q 0 0 1\r\nx\nget q\r\n",
		"ma zz N30 J13 v\r\nma zz v\r\nmg zz t\r\n", "delete a\r\ndelete a\r\nget a\r\n", "md a q\r\nmg a\r\n", "get "+strings.Repeat("k ", 100)+"a\r\n", "quit\r\nget a\r\n",
	)
}
