package folder

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestDescriptorsAreBounded(t *testing.T) {
	dir := t.TempDir()
	const most = 10
	f, err := openFiles(dir, time.Now, most)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	s := &Server{cache: "x"}
	f.meta = s.meta
	for i := range most + 50 {
		name := fmt.Sprint(i)
		write(t, dir, name, "x")
		file, err := f.get(name, func() {})
		if err != nil {
			t.Fatal(err)
		}
		file.Release()
	}
	if n := len(f.open); n > most {
		t.Errorf("%d files are open", n)
	}
}

// What a process may have open is enough for all that it takes up.
func TestShareOfDescriptors(t *testing.T) {
	for _, n := range []uint64{0, 1, 64, 256, 1024, 4096, 65536, 1 << 20, 1 << 63} {
		connections, open := share(n)
		if connections < 1 || open < 1 || connections > maxConnections || open > maxOpen {
			t.Errorf("of %d: %d connections, %d files", n, connections, open)
		}
		if n >= 64 && uint64(connections)+uint64(open) > n {
			t.Errorf("of %d: %d connections and %d files are more", n, connections, open)
		}
	}
	if c, open := share(1024); c != 732 || open != 244 {
		t.Errorf("of 1024: %d connections, %d files", c, open)
	}
}

// Where there are as many connections as descriptors allow, who is connected is
// served on and who comes is closed, not left waiting.
func TestMoreConnectionsThanDescriptors(t *testing.T) {
	dir, base := serve(t, func(c *Config) { c.Descriptors = 64 })
	most, _ := share(64)
	write(t, dir, "a", "abc")
	var clients []*bufio.ReadWriter
	ask := func(c *bufio.ReadWriter) (string, error) {
		if _, err := c.WriteString("/a HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return "", err
		}
		if err := c.Flush(); err != nil {
			return "", err
		}
		status, err := c.ReadString('\n')
		for err == nil {
			var line string
			if line, err = c.ReadString('\n'); line == "\r\n" {
				_, err = io.CopyN(io.Discard, c, 3)
				break
			}
		}
		return strings.TrimSpace(status), err
	}
	for i := range int(most) + 5 {
		nc, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(patience))
		c := bufio.NewReadWriter(bufio.NewReader(nc), bufio.NewWriter(nc))
		if _, err := io.WriteString(nc, "GET "); err != nil { // none is idle
			t.Fatal(err)
		}
		if i < int(most) {
			clients = append(clients, c)
			continue
		}
		if status, err := ask(c); err == nil {
			t.Errorf("connection %d of %d is answered %s", i+1, most, status)
		}
	}
	for i, c := range clients {
		if status, err := ask(c); err != nil || status != "HTTP/1.1 200 OK" {
			t.Errorf("client %d: %s, %v", i, status, err)
		}
	}
}

// Who comes after the end was asked for is refused by the kernel, while an answer
// under way goes on.
func TestEndClosesTheListenerFirst(t *testing.T) {
	end := make(chan struct{})
	dir, base := serveUntil(t, end, nil)
	const size = 16 << 20 // more than buffers take
	write(t, dir, "large", strings.Repeat("x", size))
	addr := strings.TrimPrefix(base, "http://")
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(nc)
	if _, err := br.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	close(end)
	for deadline := time.Now().Add(drainTime / 2); ; <-time.After(time.Millisecond) {
		late, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		late.Close()
		if time.Now().After(deadline) {
			t.Fatal("connections are accepted while it ends")
		}
	}
	n, err := io.Copy(io.Discard, br)
	if err != nil || n < size {
		t.Errorf("%d bytes of the answer under way, %v", n, err)
	}
}
