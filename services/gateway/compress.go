package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

const (
	// defaultMinCompress is the shortest body that is compressed: below it the
	// answer fits into one packet anyway (Zuul 2's default).
	defaultMinCompress = 860
	// compressAtOnce bounds the compressors: each holds some 800 KiB.
	compressAtOnce = 64
	// compressPiece is read from the origin at a time.
	compressPiece = 16 << 10
)

// defaultCompressTypes are what compresses well. Video, images and archives
// are compressed already; streams of events and of gRPC must not wait for a
// block to fill.
const defaultCompressTypes = "text/*, application/json, application/*+json, application/xml, application/*+xml, application/javascript, application/dash+xml, application/vnd.apple.mpegurl, image/svg+xml"

// compressor is the filter "compress".
type compressor struct {
	min     atomic.Int64
	types   atomic.Pointer[[]string]
	inUse   atomic.Int64
	writers sync.Pool // *gzip.Writer
}

func (c *compressor) options() []Option {
	return []Option{
		{Name: "min-bytes", Doc: "bodies that are known to be shorter are sent as they are", Default: "860", Set: func(v string) error {
			return setCount(&c.min, v, defaultMinCompress)
		}},
		{Name: "types", Doc: "content types to compress, separated by commas; type/* and type/*+suffix are taken", Default: defaultCompressTypes, Set: func(v string) error {
			if v == "" {
				v = defaultCompressTypes
			}
			var list []string
			for t := range strings.SplitSeq(v, ",") {
				t = strings.ToLower(strings.TrimSpace(t))
				main, sub, ok := strings.Cut(t, "/")
				if !ok || main == "" || sub == "" || strings.ContainsAny(t, " ;") {
					return services.Errorf(services.Invalid, "%q is not a content type", t)
				}
				list = append(list, t)
			}
			c.types.Store(&list)
			return nil
		}},
	}
}

// matches says whether a content type is to be compressed.
func (c *compressor) matches(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	if t == "" || t == "text/event-stream" {
		return false
	}
	list := c.types.Load()
	if list == nil {
		return false
	}
	for _, want := range *list {
		before, after, star := strings.Cut(want, "*")
		if t == want || (star && len(t) >= len(before)+len(after) && strings.HasPrefix(t, before) && strings.HasSuffix(t, after)) {
			return true
		}
	}
	return false
}

// acceptsGzip reads Accept-Encoding by RFC 9110 section 12.5.3: gzip itself
// decides, else "*" does. A body as it is stays, where the client likes that better.
func acceptsGzip(values []string) bool {
	gzipped, star, plain := -1, 0, 0
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			coding, params, _ := strings.Cut(item, ";")
			switch coding = strings.TrimSpace(coding); {
			case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"):
				if gzipped < 0 {
					gzipped = weight(params)
				}
			case coding == "*":
				star = weight(params)
			case strings.EqualFold(coding, "identity"):
				plain = weight(params)
			}
		}
	}
	if gzipped < 0 {
		gzipped = star
	}
	return gzipped > 0 && gzipped >= plain
}

// weight reads the parameter q, in thousandths. What is none by RFC 9110 section
// 12.4.2 asks for nothing.
func weight(params string) int {
	for p := range strings.SplitSeq(params, ";") {
		name, value, ok := strings.Cut(p, "=")
		if !ok || !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		whole, part, _ := strings.Cut(strings.TrimSpace(value), ".")
		n, ok := wholeNumber(whole + (part + "000")[:max(3, len(part))])
		if !ok || len(whole) != 1 || len(part) > 3 || n > 1000 {
			return 0
		}
		return int(n)
	}
	return 1000
}

// compress is the outbound filter. What it leaves alone stays byte for byte.
func (s *Server) compress(ex *Exchange) error {
	r, c := &ex.Response, &s.compressor
	if r.Body == nil || r.Upgraded != nil || ex.Request.Method == http.MethodHead || !wire.BodyAllowed(r.Status) ||
		r.Status == http.StatusPartialContent || (r.ContentLength >= 0 && r.ContentLength < c.min.Load()) {
		return nil
	}
	h := r.Header
	if !c.matches(h.Get("Content-Type")) || h.Has("Content-Encoding") || h.Has("Content-Range") || h.HasToken("Cache-Control", "no-transform") ||
		ex.Request.Header.HasToken("Cache-Control", "no-transform") {
		return nil
	}
	addVary(h, "Accept-Encoding") // a cache must not give this to somebody else either
	if !acceptsGzip(ex.Request.Header.Values("Accept-Encoding")) {
		return nil
	}
	if c.inUse.Add(1) > compressAtOnce {
		c.inUse.Add(-1)
		return nil
	}
	h.Set("Content-Encoding", "gzip")
	h.Del("Content-Length")
	h.Del("Content-Md5")
	h.Del("Digest")
	h.Del("Repr-Digest")
	h.Del("Content-Digest")
	h.Del("Accept-Ranges")
	if tag := h.Get("Etag"); strings.HasPrefix(tag, `"`) {
		h.Set("Etag", "W/"+tag) // the same content, no longer the same bytes
	}
	// A body of unknown length is one that somebody may be waiting for piece by
	// piece: what was read is passed on at once.
	r.Body = newGzipBody(c, r.Body, r.ContentLength < 0)
	r.ContentLength = -1
	return nil
}

// gzipBody compresses what is read through it.
type gzipBody struct {
	c     *compressor
	src   io.ReadCloser
	w     *gzip.Writer
	out   pieces
	piece []byte
	flush bool
	err   error
}

func newGzipBody(c *compressor, src io.ReadCloser, flush bool) *gzipBody {
	b := &gzipBody{c: c, src: src, flush: flush}
	w, ok := c.writers.Get().(*gzip.Writer)
	if !ok {
		// The level where gzip costs least per byte saved; the constant is a
		// valid one.
		w, _ = gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	}
	w.Reset(&b.out)
	b.w = w
	return b
}

// Read implements io.Reader. An error of the origin's body comes out as it is,
// and without the end of a gzip stream: what is cut off must not look whole.
func (b *gzipBody) Read(p []byte) (int, error) {
	for len(b.out.buf) == b.out.read {
		if b.err != nil {
			return 0, b.err
		}
		if b.w == nil {
			return 0, errors.New("the body is closed")
		}
		b.out.reset()
		if b.piece == nil {
			b.piece = make([]byte, compressPiece)
		}
		n, err := b.src.Read(b.piece)
		if n > 0 {
			if _, werr := b.w.Write(b.piece[:n]); werr != nil {
				return 0, werr
			}
			if b.flush && err == nil {
				if ferr := b.w.Flush(); ferr != nil {
					return 0, ferr
				}
			}
		}
		if errors.Is(err, io.EOF) {
			if cerr := b.w.Close(); cerr != nil {
				return 0, cerr
			}
		}
		b.err = err
	}
	return b.out.take(p), nil
}

// Ready says that something has come to compress.
func (b *gzipBody) Ready() bool {
	r, ok := b.src.(readiness)
	return ok && r.Ready() || !ok && !b.flush
}

// Close implements io.Closer.
func (b *gzipBody) Close() error {
	if b.w != nil {
		b.w.Reset(io.Discard)
		b.c.writers.Put(b.w)
		b.c.inUse.Add(-1)
		b.w = nil
	}
	return b.src.Close()
}

// pieces is a buffer that is written whole and read in parts.
type pieces struct {
	buf  []byte
	read int
}

// Write implements io.Writer.
func (p *pieces) Write(b []byte) (int, error) {
	p.buf = append(p.buf, b...)
	return len(b), nil
}

func (p *pieces) take(b []byte) int {
	n := copy(b, p.buf[p.read:])
	p.read += n
	return n
}

func (p *pieces) reset() { p.buf, p.read = p.buf[:0], 0 }
