package objects

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/flix-lab/flix/services"
)

func TestAuthentication(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("secret data"))
	get := call{method: "GET", path: "/media/k"}
	r.expect(get, 200, "")
	for _, tc := range []struct {
		name string
		edit func(*call)
		code string
	}{
		{"no signature", func(c *call) { c.unsigned = true }, "AccessDenied"},
		{"wrong secret", func(c *call) { c.secret = "guess" }, "SignatureDoesNotMatch"},
		{"too old", func(c *call) { c.at = time.Now().Add(-maxSkew - time.Minute) }, "RequestTimeTooSkewed"},
		{"from the future", func(c *call) { c.at = time.Now().Add(maxSkew + time.Minute) }, "RequestTimeTooSkewed"},
		{"signature of version 2", func(c *call) { c.unsigned, c.header = true, map[string]string{"Authorization": "AWS k:sig"} }, "AuthorizationHeaderMalformed"},
		{"garbage", func(c *call) { c.unsigned, c.header = true, map[string]string{"Authorization": signAlgorithm + " x"} }, "AuthorizationHeaderMalformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := get
			tc.edit(&c)
			resp := r.call(c)
			if body := text(t, resp); resp.StatusCode < 400 || resp.StatusCode > 403 || !strings.Contains(body, tc.code) || strings.Contains(body, "secret data") {
				t.Errorf("%d %s, want %s", resp.StatusCode, body, tc.code)
			}
		})
	}
	if _, err := r.minio("guess", false).StatObject(t.Context(), BucketMedia, "k", minio.StatObjectOptions{}); err == nil {
		t.Error("minio-go got in with a wrong secret")
	}
	wrong, err := NewClient(ClientConfig{Endpoint: StaticEndpoint(r.addr), AccessKey: testKey, SecretKey: "guess"})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if _, err := wrong.Get(t.Context(), BucketMedia, "k", 0, 0); services.KindOf(err) != services.Denied {
		t.Errorf("the client with a wrong secret: %v", err)
	}
}

// A header that changes what a request means must be under its signature.
func TestUnsignedAmzHeaderIsRefused(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("x"))
	req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://"+r.addr+"/media/copy", nil)
	if err != nil {
		t.Fatal(err)
	}
	signRequest(req, call{})
	req.Header.Set("X-Amz-Copy-Source", "/media/k")
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d, want 403", resp.StatusCode)
	}
}

func TestPresign(t *testing.T) {
	r := newRig(t)
	r.put("titles/ä b/1/v1.mp4", []byte("data"))
	u, err := r.client.Presign(t.Context(), BucketMedia, "titles/ä b/1/v1.mp4", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(u string) (int, string) {
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "GET", u, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, text(t, resp)
	}
	if code, body := fetch(u); code != 200 || body != "data" {
		t.Errorf("the signed URL gave %d %q", code, body)
	}
	for _, bad := range []string{strings.Replace(u, "v1.mp4", "v2.mp4", 1), strings.Replace(u, "Expires=60", "Expires=61", 1), u[:len(u)-1] + "g"} {
		if code, _ := fetch(bad); code != 403 && code != 400 {
			t.Errorf("a changed URL gave %d", code)
		}
	}
	old := presign(presigned{host: r.addr, bucket: BucketMedia, key: "k", accessKey: testKey, secretKey: testSecret, ttl: time.Minute, at: time.Now().Add(-2 * time.Minute)})
	if code, body := fetch(old); code != 403 || !strings.Contains(body, "expired") {
		t.Errorf("an expired URL gave %d %s", code, body)
	}
	theirs, err := r.minio(testSecret, false).PresignedGetObject(t.Context(), BucketMedia, "titles/ä b/1/v1.mp4", time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := fetch(theirs.String()); code != 200 || body != "data" {
		t.Errorf("a URL signed by minio-go gave %d %s", code, body)
	}
	if _, err := r.client.Presign(t.Context(), BucketMedia, "k", 8*24*time.Hour); services.KindOf(err) != services.Invalid {
		t.Errorf("a life of eight days: %v", err)
	}
}
