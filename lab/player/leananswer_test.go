package player

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/flix-lab/flix/services"
)

// Every kind of answer is read as package net/http reads it, in one piece or byte
// by byte, and what follows it is left.
func TestAnswersAreReadAsByNetHTTP(t *testing.T) {
	const next = "HTTP/1.1 500 next\r\n"
	for name, a := range map[string]struct {
		method, text, body string
		status             int
	}{
		"a known length":      {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Flix-Region: eu-west\r\nX-Flix-Gateway: g\r\nServer: x\r\n\r\n12345", "12345", 200},
		"no bytes":            {"POST", "HTTP/1.1 201 Created\r\nX-Flix-Region: eu-west\r\nX-Flix-Gateway: g\r\nContent-Length: 0\r\n\r\n", "", 201},
		"a range":             {"GET", "HTTP/1.1 206 Partial Content\r\ncontent-length: 2\r\nx-flix-region: eu-west\r\nX-FLIX-GATEWAY: g\r\n\r\nab", "ab", 206},
		"no content":          {"POST", "HTTP/1.1 204 No Content\r\nX-Flix-Region: eu-west\r\nX-Flix-Gateway: g\r\n\r\n", "", 204},
		"chunks":              {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Flix-Region: eu-west\r\nX-Flix-Gateway: g\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc", 200},
		"after an interim":    {"GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Flix-Region: eu-west\r\nX-Flix-Gateway: g\r\n\r\nx", "x", 200},
		"a head alone":        {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Flix-Region: eu-west\r\nX-Flix-Gateway: g\r\n\r\n", "", 200},
		"its connection ends": {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\nX-Flix-Region: eu-west\r\nX-Flix-Gateway: g\r\n\r\nx", "x", 200},
	} {
		for _, slow := range []bool{false, true} {
			var r io.Reader = strings.NewReader(a.text + next)
			if slow {
				r = iotest.OneByteReader(r)
			}
			req := &http.Request{Method: a.method}
			want, err := http.ReadResponse(bufio.NewReader(strings.NewReader(a.text)), req)
			for err == nil && want.StatusCode < 200 {
				want = &http.Response{StatusCode: 200, Status: "200 OK", ContentLength: 1}
			}
			if err != nil {
				t.Fatal(err)
			}
			x := &httpAnswer{Reader: bufio.NewReaderSize(r, answerBuffer)}
			resp, body, err := x.read(req)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			b, err := io.ReadAll(body)
			if err != nil || string(b) != a.body {
				t.Errorf("%s: body %q, %v", name, b, err)
			}
			if resp.StatusCode != a.status || resp.Status != want.Status || resp.ContentLength != want.ContentLength || resp.Close != want.Close {
				t.Errorf("%s: %s, length %d, ends %v; want %s, %d, %v", name, resp.Status, resp.ContentLength, resp.Close, want.Status, want.ContentLength, want.Close)
			}
			if resp.Header.Get(headerRegion) != "eu-west" || resp.Header.Get(headerGateway) != "g" {
				t.Errorf("%s: header %v", name, resp.Header)
			}
			if rest, err := io.ReadAll(x); string(rest) != next || err != nil {
				t.Errorf("%s: left %q, %v", name, rest, err)
			}
		}
	}
}

func TestAnswersThatBreakOff(t *testing.T) {
	read := func(text string) error {
		x := &httpAnswer{Reader: bufio.NewReaderSize(strings.NewReader(text), answerBuffer)}
		_, body, err := x.read(&http.Request{Method: http.MethodGet})
		if err == nil {
			_, err = io.Copy(io.Discard, body)
		}
		return err
	}
	for _, text := range []string{"HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234"} {
		if err := read(text); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := read("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", answerBuffer) + "\r\n\r\n"); services.KindOf(err) != services.Exhausted {
		t.Errorf("a head without end: %v", err)
	}
	if err := read("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n1"); err == nil {
		t.Error("two lengths pass")
	}
}

// What is sent is what package net/http understands.
func TestRequestsAreSent(t *testing.T) {
	write := func(req *http.Request) (string, error) {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		err := send(w, req)
		return b.String(), errors.Join(err, w.Flush())
	}
	for _, body := range []string{"", `{"a":1}`} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			req, err := http.NewRequest(method, "https://api.flix.test/v1/x?q=a+b", bytes.NewReader([]byte(body)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer t")
			var b bytes.Buffer
			w := bufio.NewWriter(&b)
			if err := errors.Join(send(w, req), w.Flush()); err != nil {
				t.Fatal(err)
			}
			got, err := http.ReadRequest(bufio.NewReader(&b))
			if err != nil {
				t.Fatal(err)
			}
			have, err := io.ReadAll(got.Body)
			if err != nil || string(have) != body || got.ContentLength != int64(len(body)) {
				t.Errorf("%s: body %q of %d, %v", method, have, got.ContentLength, err)
			}
			if got.Method != method || got.RequestURI != "/v1/x?q=a+b" || got.Host != "api.flix.test" || got.Header.Get("Authorization") != "Bearer t" {
				t.Errorf("%s: came as %s %s at %s, %v", method, got.Method, got.RequestURI, got.Host, got.Header)
			}
		}
	}
	two, _ := http.NewRequest(http.MethodGet, "https://api.flix.test/", nil)
	two.Header.Set("Authorization", "Bearer t\r\nX: y")
	if s, err := write(two); services.KindOf(err) != services.Invalid {
		t.Errorf("a field of two lines: %q, %v", s, err)
	}
	unknown, _ := http.NewRequest(http.MethodPost, "https://api.flix.test/", io.MultiReader())
	if s, err := write(unknown); services.KindOf(err) != services.Internal {
		t.Errorf("a body of unknown length: %q, %v", s, err)
	}
}

func TestBodiesThatNobodyWants(t *testing.T) {
	if err := skip(strings.NewReader("12345"), 5); err != nil {
		t.Error(err)
	}
	if err := skip(strings.NewReader("12345"), 4); services.KindOf(err) != services.Exhausted {
		t.Errorf("more than is taken: %v", err)
	}
}
