package player

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// httpAnswer is where a lean reads one. It is borrowed.
type httpAnswer struct {
	*bufio.Reader
	head wire.AnswerHead
}

// answerBuffer holds the head of an answer.
const answerBuffer = 4 << 10

// told are the fields of an answer that a play goes by; a lean leaves the others
// where they are.
var told = [...]string{headerRegion, headerGateway}

// read reads the head of the answer to a request; the body is to be read from
// what is returned. An answer of a known length, as nearly all are, takes no more
// than that; what else there is, is left to package net/http.
func (a *httpAnswer) read(req *http.Request) (*http.Response, io.Reader, error) {
	text, err := a.text()
	if err != nil {
		return nil, nil, err
	}
	h := &a.head
	if err := h.Parse(text); err != nil {
		return nil, nil, err
	}
	if h.Length < 0 || req.Method == http.MethodHead || !wire.BodyAllowed(h.Status) {
		return a.readAny(req)
	}
	if _, err := a.Discard(len(text)); err != nil {
		return nil, nil, err
	}
	resp := &http.Response{Status: h.Line, StatusCode: h.Status, ContentLength: h.Length, Close: h.Ends, Request: req}
	for _, name := range told {
		if v := h.Fields.Get(name); v != "" {
			if resp.Header == nil {
				resp.Header = make(http.Header, len(told))
			}
			resp.Header.Set(name, v)
		}
	}
	return resp, &measured{r: a.Reader, left: h.Length}, nil
}

// readAny reads the head of whatever answer comes after interim ones.
func (a *httpAnswer) readAny(req *http.Request) (*http.Response, io.Reader, error) {
	for {
		resp, err := http.ReadResponse(a.Reader, req)
		if err != nil {
			return nil, nil, err
		}
		if resp.StatusCode >= http.StatusOK {
			return resp, resp.Body, nil
		}
	}
}

// text is the head as it came, which stays where it is.
func (a *httpAnswer) text() (string, error) {
	for {
		b, err := a.Peek(a.Buffered())
		if err != nil {
			return "", err
		}
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			return string(b[:i+4]), nil
		}
		switch _, err := a.Peek(len(b) + 1); {
		case errors.Is(err, bufio.ErrBufferFull):
			return "", services.Errorf(services.Exhausted, "the head of the answer has more than %d bytes", answerBuffer)
		case errors.Is(err, io.EOF):
			return "", io.ErrUnexpectedEOF
		case err != nil:
			return "", err
		}
	}
}

// measured is a body of a known length.
type measured struct {
	r    *bufio.Reader
	left int64
}

// Read implements io.Reader. The end comes with the last bytes.
func (m *measured) Read(p []byte) (int, error) {
	n, err := 0, error(nil)
	if m.left > 0 {
		n, err = m.r.Read(p[:min(int64(len(p)), m.left)])
		m.left -= int64(n)
	}
	switch {
	case m.left == 0:
		err = io.EOF
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// leanBody gives everything back at its end.
type leanBody struct {
	r    io.Reader
	l    *lean
	a    *httpAnswer
	ctx  context.Context
	stop func() bool
	last bool // the connection ends with it
	done bool
}

// Read implements io.Reader.
func (b *leanBody) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	n, err := b.r.Read(p)
	switch {
	case err == io.EOF:
		b.release(b.last)
	case err != nil:
		b.release(true)
		if b.ctx.Err() != nil {
			err = context.Cause(b.ctx)
		}
	}
	return n, err
}

// Close implements io.Closer.
func (b *leanBody) Close() error {
	if !b.done {
		// A body of no bytes is at its end without having been read.
		n, err := b.r.Read(make([]byte, 1))
		b.release(b.last || n > 0 || err != io.EOF)
	}
	return nil
}

func (b *leanBody) release(hangUp bool) {
	b.done = true
	// If the request was cancelled in the meantime, its deadline is set.
	if !b.stop() || hangUp {
		b.l.hangUp()
	}
	b.l.bufs.giveBack(b.a)
	b.l.turn.Unlock()
}

// giveBack takes an answer back.
func (b *buffers) giveBack(a *httpAnswer) {
	a.Reset(nil)
	a.head.Clear()
	b.answers.put(a)
}
