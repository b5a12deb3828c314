package gateway

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func TestCompression(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	long := strings.Repeat("all work and no play ", 500)
	answerWith := http.Header{}
	body, stream := "", false
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		for k, v := range answerWith {
			w.Header()[k] = v
		}
		if !stream {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		if r.URL.Query().Get("status") != "" {
			n, _ := strconv.Atoi(r.URL.Query().Get("status"))
			w.WriteHeader(n)
		}
		_, _ = io.WriteString(w, body)
	})
	for _, tt := range []struct {
		name          string
		accept        string
		contentType   string
		header        string // of the answer, name: value
		control       string // Cache-Control of the request
		body          string
		query, method string
		stream        bool
		want          bool
	}{
		{name: "long JSON", accept: "gzip", contentType: "application/json", body: long, want: true},
		{name: "a stream", accept: "gzip", contentType: "application/json; charset=utf-8", body: long, stream: true, want: true},
		{name: "a list of codings", accept: "br;q=1, gzip;q=0.5", contentType: "text/html", body: long, want: true},
		{name: "any coding", accept: "*", contentType: "application/problem+json", body: long, want: true},
		{name: "859 bytes", accept: "gzip", contentType: "text/plain", body: long[:859]},
		{name: "860 bytes", accept: "gzip", contentType: "text/plain", body: long[:860], want: true},
		{name: "not accepted", accept: "", contentType: "text/plain", body: long},
		{name: "refused", accept: "gzip;q=0", contentType: "text/plain", body: long},
		{name: "refused in other words", accept: "*, gzip; q=0.000", contentType: "text/plain", body: long},
		{name: "a weight that is none", accept: "gzip;q=-1", contentType: "text/plain", body: long},
		{name: "a weight above 1", accept: "gzip;q=1.5", contentType: "text/plain", body: long},
		{name: "a weight of four digits", accept: "gzip;q=0.0001", contentType: "text/plain", body: long},
		{name: "the least weight", accept: "gzip;q=0.001", contentType: "text/plain", body: long, want: true},
		{name: "rather as it is", accept: "identity, gzip;q=0.2", contentType: "text/plain", body: long},
		{name: "rather compressed", accept: "identity;q=0.5, *", contentType: "text/plain", body: long, want: true},
		{name: "not to be touched for this client", accept: "gzip", control: "no-transform", contentType: "text/plain", body: long},
		{name: "only identity", accept: "identity", contentType: "text/plain", body: long},
		{name: "video", accept: "gzip", contentType: "video/mp4", body: long},
		{name: "events", accept: "gzip", contentType: "text/event-stream", body: long, stream: true},
		{name: "compressed already", accept: "gzip", contentType: "text/plain", header: "Content-Encoding: br", body: long},
		{name: "not to be touched", accept: "gzip", contentType: "text/plain", header: "Cache-Control: private, no-transform", body: long},
		{name: "a part", accept: "gzip", contentType: "text/plain", header: "Content-Range: bytes 0-9/10", body: long, query: "?status=206"},
		{name: "an error", accept: "gzip", contentType: "application/json", body: long, query: "?status=404", want: true},
		{name: "HEAD", accept: "gzip", contentType: "text/plain", body: long, method: "HEAD"},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s h2=%t", tt.name, h2), func(t *testing.T) {
				body, stream = tt.body, tt.stream
				answerWith = http.Header{"Content-Type": {tt.contentType}, "Etag": {`"v1"`}, "X-Trailing": {"x"}}
				if k, v, ok := strings.Cut(tt.header, ": "); ok {
					answerWith.Set(k, v)
				}
				method := tt.method
				if method == "" {
					method = "GET"
				}
				c := e.client(eastClient, h2)
				c.Transport.(*http.Transport).DisableCompression = true
				var header []string
				if tt.accept != "" {
					header = []string{"Accept-Encoding", tt.accept}
				}
				if tt.control != "" {
					header = append(header, "Cache-Control", tt.control)
				}
				a := ask(t, c, method, "/signup/x"+tt.query, "", header...)
				if got := a.Header.Get("Content-Encoding") == "gzip"; got != tt.want {
					t.Fatalf("compressed: %t; header %v", got, a.Header)
				}
				if !tt.want {
					if method == "GET" && a.body != tt.body || a.Header.Get("Etag") != `"v1"` {
						t.Errorf("what is not compressed is changed: %v", a.Header)
					}
					return
				}
				z, err := gzip.NewReader(strings.NewReader(a.body))
				if err != nil {
					t.Fatal(err)
				}
				plain, err := io.ReadAll(z)
				if err != nil || string(plain) != tt.body {
					t.Errorf("%d bytes after decompression, %v; want %d", len(plain), err, len(tt.body))
				}
				if len(a.body) > len(tt.body)/2 || a.Header.Get("Vary") != "Origin, Accept-Encoding" || a.Header.Get("Etag") != `W/"v1"` || a.Header.Get("Content-Length") != "" && a.Header.Get("Content-Length") == strconv.Itoa(len(tt.body)) {
					t.Errorf("%d bytes, header %v", len(a.body), a.Header)
				}
			})
		}
	}
	eventually(t, "every compressor is given back", func() bool { return e.compressor.inUse.Load() == 0 })
}

// TestCompressedStreamPassesPieceByPiece: what an API has flushed is readable
// before it goes on.
func TestCompressedStreamPassesPieceByPiece(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	next := make(chan string)
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x+json")
		for s := range next {
			_, _ = io.WriteString(w, s)
			_ = http.NewResponseController(w).Flush()
		}
	})
	go func() { next <- "one" }()
	resp, err := e.client(eastClient, false).Get("https://" + edgeHost + "/signup/stream") // the client asks for gzip by itself
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if !resp.Uncompressed {
		t.Error("it is not compressed")
	}
	buf := make([]byte, 3)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "one" {
		t.Fatalf("%q, %v", buf, err)
	}
	next <- "two"
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "two" {
		t.Fatalf("%q, %v", buf, err)
	}
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestBrokenBodyIsNotCompressedToAWholeOne: what breaks off must look so.
func TestBrokenBodyIsNotCompressedToAWholeOne(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, strings.Repeat("half", 1000))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, h2 := range []bool{false, true} {
		resp, err := e.client(eastClient, h2).Get("https://" + edgeHost + "/signup/x")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			t.Errorf("h2=%t: %d bytes read as whole", h2, len(b))
		}
	}
}

func FuzzAcceptsGzip(f *testing.F) {
	for _, v := range []string{"gzip", "gzip;q=0", "*;q=0, gzip", "br", ";;q", "gzip;q=0.001"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if acceptsGzip([]string{v}) && !strings.Contains(strings.ToLower(v), "gzip") && !strings.Contains(v, "*") {
			t.Errorf("%q is said to accept gzip", v)
		}
	})
}
