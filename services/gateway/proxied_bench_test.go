package gateway

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkProxied is a whole request through every filter over real sockets:
// its allocations are the gateway's, for the client and the API here make
// none.
func BenchmarkProxied(b *testing.B) {
	for _, size := range []int{15, 16 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			w := newWorld(b)
			e := w.gateway("us-east")
			e.registry.add("signup", "us-east/a/signup/1", "a", bareAPI(b, size))
			c, err := net.Dial("tcp", e.plainAddr)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			request := []byte("GET /signup/plans HTTP/1.1\r\nHost: api.flix.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
			buf := make([]byte, 64<<10)
			ask := func() {
				if _, err := c.Write(request); err != nil {
					b.Fatal(err)
				}
				for n := 0; ; {
					m, err := c.Read(buf[n:])
					if err != nil {
						b.Fatal(err)
					}
					n += m
					if i := bytes.Index(buf[:n], []byte("\r\n\r\n")); i >= 0 && n >= i+4+size {
						if !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")) {
							b.Fatalf("%s", buf[:n])
						}
						return
					}
				}
			}
			for range 100 {
				ask()
			}
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}

// bareAPI answers each request with so many bytes and allocates nothing for
// it.
func bareAPI(b *testing.B, size int) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nServer: bare\r\nDate: Thu, 26 Nov 2026 12:30:53 GMT\r\nContent-Type: application/octet-stream\r\nContent-Length: " + strconv.Itoa(size) + "\r\nConnection: keep-alive\r\n\r\n" + strings.Repeat("x", size))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4<<10)
				for n := 0; ; {
					m, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					if n += m; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						n = 0
						if _, err := c.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
