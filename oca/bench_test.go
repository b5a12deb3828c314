package oca_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkServe compares an appliance with net/http's file server over the
// same TLS, for segments of 256 KiB.
func BenchmarkServe(b *testing.B) {
	s := newSite(b, 1)
	s.startControl("us-east")
	asset := s.title("tt-a", 1, 8<<20)
	s.publish("us-east", asset)
	a := s.startAppliance("us-east/us-east-ix/oca/1")
	s.startAppliance("us-east/us-east-ix/oca/2")
	s.waitFilled("us-east", 2, asset)
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "v.mp4"), s.body(asset, 0), 0o600); err != nil {
		b.Fatal(err)
	}
	plain := httptest.NewUnstartedServer(http.FileServer(http.Dir(dir)))
	plain.TLS = &tls.Config{Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS13}
	plain.StartTLS()
	defer plain.Close()
	for _, c := range []struct {
		name, url, from string
	}{{"appliance", s.url(a, asset, 0, insider), insider}, {"fileserver", plain.URL + "/v.mp4", ""}} {
		b.Run(c.name, func(b *testing.B) {
			client := s.httpClient(c.from)
			tr, _ := client.Transport.(*http.Transport)
			tr.ForceAttemptHTTP2 = false
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, c.url, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(256 << 10)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				from := i % 32 * (256 << 10)
				req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+(256<<10)-1))
				resp, err := client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusPartialContent {
					b.Fatal(resp.Status, err)
				}
				resp.Body.Close()
			}
		})
	}
}
