package player

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services"
)

// send writes a request whose body, if any, is of a known length. It does what
// http.Request.Write does for it, with the fields in no order.
func send(w *bufio.Writer, req *http.Request) error {
	if req.ContentLength < 0 || req.ContentLength == 0 && req.Body != nil && req.Body != http.NoBody {
		return services.Errorf(services.Internal, "player: a body of unknown length")
	}
	// The writer keeps its first error for Flush.
	line := func(name, value string) {
		_, _ = w.WriteString(name)
		_, _ = w.WriteString(": ")
		_, _ = w.WriteString(value)
		_, _ = w.WriteString("\r\n")
	}
	_, _ = w.WriteString(req.Method)
	_ = w.WriteByte(' ')
	_, _ = w.WriteString(req.URL.RequestURI())
	_, _ = w.WriteString(" HTTP/1.1\r\n")
	line("Host", req.Host)
	line("User-Agent", "Go-http-client/1.1")
	for name, values := range req.Header {
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n") {
				return services.Errorf(services.Invalid, "player: the header %s would have two lines: %q", name, v)
			}
			line(name, v)
		}
	}
	if req.ContentLength > 0 || req.Method == http.MethodPost {
		line("Content-Length", strconv.FormatInt(req.ContentLength, 10))
	}
	_, _ = w.WriteString("\r\n")
	if req.ContentLength == 0 {
		return nil
	}
	n, err := io.Copy(w, req.Body)
	if cerr := req.Body.Close(); err == nil {
		err = cerr
	}
	if err == nil && n != req.ContentLength {
		err = services.Errorf(services.Internal, "player: a body of %d bytes has %d", req.ContentLength, n)
	}
	return err
}
