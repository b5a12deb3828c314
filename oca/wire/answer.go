package wire

import (
	"context"
	"crypto/rand"
	"net/http"
	"strconv"
	"time"
)

// Answer is the answer to a request. A handler fills it in with Content, or
// with Text or Empty, and may add fields.
type Answer struct {
	// Status is the HTTP status; zero is a handler that did not answer, 500.
	Status int
	// Length of the body in bytes, whether it is sent (GET) or not (HEAD).
	Length int64
	// Sent is how many bytes of the body went to the client's connection, and
	// Err why not all; both are set when Done is called.
	Sent int64
	Err  error
	// Start and State are for the handler's own use between Serve and Done.
	Start time.Time
	State any

	fields []Field
	meta   *Meta
	// body is text, or the spans of file. Of several spans each has a head,
	// and tail ends the last.
	text      []byte
	file      *File
	spans     []span
	heads     []string
	tail      string
	bodyless  bool // HEAD, 304, 204: Length is announced, or not, and not sent
	unlengthy bool // no Content-Length: 304, 204
	close     bool

	spanArray [4]span
}

// Handler answers requests. Both methods may be called from several goroutines
// at once.
type Handler interface {
	// Serve fills in the answer; it sends nothing.
	Serve(r *Request, a *Answer)
	// Done is called when the answer was sent, or could not be.
	Done(r *Request, a *Answer)
}

// Set adds a header field.
func (a *Answer) Set(name, value string) { a.fields = append(a.fields, Field{name, value}) }

// Close ends the connection after the answer.
func (a *Answer) Close() { a.close = true }

// Text answers with a short body.
func (a *Answer) Text(r *Request, status int, mediaType string, body []byte) {
	a.Status, a.text, a.Length = status, body, int64(len(body))
	a.Set("Content-Type", mediaType)
	a.bodyless = r.Method == "HEAD"
}

// Empty answers without a body.
func (a *Answer) Empty(status int) {
	a.Status, a.Length, a.bodyless = status, 0, true
	a.unlengthy = status == 204 || status == 304
}

// Content answers a GET or HEAD with a file or what is asked of it: conditions,
// ranges, multipart/byteranges (RFC 9110, 13 to 15). It takes the caller's
// reference of the file over.
func (a *Answer) Content(r *Request, f *File, now time.Time) {
	a.file, a.meta = f, f.Meta
	switch conditions(r, f.Meta) {
	case failed:
		a.refuse(412)
		return
	case notModified:
		a.Empty(304)
		return
	}
	a.Status, a.Length, a.bodyless = 200, f.Size, r.Method == "HEAD"
	mediaType, outcome := f.Type, whole
	// Only GET knows ranges (RFC 9110, 14.2).
	if v := r.Join("Range"); v != "" && r.Method == "GET" && rangeHolds(r, f.Meta, now) {
		a.spans, outcome = parseRanges(v, f.Size, a.spanArray[:0])
	}
	switch {
	case outcome == whole:
		a.spans = append(a.spanArray[:0], span{0, f.Size})
	case outcome == unsatisfiable:
		a.refuse(416)
		a.Set("Content-Range", "bytes */"+strconv.FormatInt(f.Size, 10))
		return
	case len(a.spans) == 1:
		a.Status, a.Length = 206, a.spans[0].length
		a.Set("Content-Range", contentRange(a.spans[0], f.Size))
	default:
		mediaType = a.multipart()
	}
	a.Set("Content-Type", mediaType)
}

// refuse answers without the file, and without what would let a cache keep the
// answer.
func (a *Answer) refuse(status int) {
	a.meta, a.spans = nil, nil
	a.Empty(status)
	a.Set("Accept-Ranges", "bytes")
	a.Set("ETag", a.file.ETag)
	a.Set("Cache-Control", "no-store")
}

func contentRange(s span, size int64) string {
	b := make([]byte, 0, 64)
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, s.off, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, s.off+s.length-1, 10)
	b = append(b, '/')
	return string(strconv.AppendInt(b, size, 10))
}

// multipart prepares a body of several parts (RFC 9110, 14.6) and returns its
// media type.
func (a *Answer) multipart() string {
	boundary := rand.Text() // 130 bits: not in the file
	a.Status, a.Length = 206, 0
	for i, s := range a.spans {
		lead := "\r\n--"
		if i == 0 {
			lead = "--"
		}
		head := lead + boundary + "\r\nContent-Type: " + a.meta.Type + "\r\nContent-Range: " + contentRange(s, a.meta.Size) + "\r\n\r\n"
		a.heads = append(a.heads, head)
		a.Length += int64(len(head)) + s.length
	}
	a.tail = "\r\n--" + boundary + "--\r\n"
	a.Length += int64(len(a.tail))
	return "multipart/byteranges; boundary=" + boundary
}

// appendHead renders the answer's head for HTTP/1.1.
func (a *Answer) appendHead(b []byte, common, date string, minor int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = append(b, statusLine(a.Status)...)
	b = append(b, "\r\nDate: "...)
	b = append(b, date...)
	b = append(b, "\r\n"...)
	b = append(b, common...)
	if a.meta != nil {
		b = append(b, a.meta.raw...)
	}
	for i := range a.fields {
		b = append(b, a.fields[i].Name...)
		b = append(b, ": "...)
		b = append(b, a.fields[i].Value...)
		b = append(b, "\r\n"...)
	}
	if !a.unlengthy {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, a.Length, 10)
		b = append(b, "\r\n"...)
	}
	switch {
	case a.close:
		b = append(b, "Connection: close\r\n"...)
	case minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	return append(b, "\r\n"...)
}

// reset releases the file and readies the answer for the next request.
func (a *Answer) reset() {
	if a.file != nil {
		a.file.Release()
	}
	clear(a.fields)
	*a = Answer{fields: a.fields[:0], heads: a.heads[:0]}
}

func statusLine(status int) string {
	switch status {
	case 200:
		return "200 OK"
	case 206:
		return "206 Partial Content"
	}
	return strconv.Itoa(status) + " " + http.StatusText(status)
}

// ready waits until the first byte of the body can be sent, if the file is
// still arriving. If it does not come the answer is a refusal.
func (a *Answer) ready(ctx context.Context, r *Request) {
	if a.file == nil || a.file.grow == nil || a.bodyless || len(a.spans) == 0 || a.Length == 0 {
		return
	}
	_, err := a.file.await(ctx, a.spans[0].off)
	if err == nil {
		return
	}
	a.meta, a.spans, a.heads, a.tail, a.fields = nil, nil, a.heads[:0], "", a.fields[:0]
	a.Set("Retry-After", "1")
	Problem(r, a, 503, err)
}

// fieldsOf lists the header of an answer for HTTP/2.
func (a *Answer) fieldsOf(yield func(Field) bool) {
	if a.meta != nil {
		for _, f := range a.meta.fields {
			if !yield(f) {
				return
			}
		}
	}
	for _, f := range a.fields {
		if !yield(f) {
			return
		}
	}
}
