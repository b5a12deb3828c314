package token

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
)

var now = time.Unix(1_800_000_000, 0)

func testKey(t testing.TB, lab, root string) Key {
	t.Helper()
	k, err := NewKey(lab, []byte(root))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const root = "0123456789abcdef"

var audiences = []Audience{Member, URL, Fill, License, AdminKey, S3, Discharge, Debug}

func TestRoundTrip(t *testing.T) {
	k := testKey(t, "lab-1", root)
	want := Claims{Member: "m1", Plan: "premium", Country: "US", Device: "tv", Session: "s", Title: "tt", Client: "2001:db8::1", MaxHeight: 1080, Trace: "abc"}
	for _, aud := range audiences {
		tok := k.Sign(aud, want, now, time.Hour)
		got, err := k.Verify(aud, tok, now)
		expect := want
		expect.Lab, expect.Audience, expect.Expires = "lab-1", aud, now.Add(time.Hour).Unix()
		if err != nil || got != expect {
			t.Errorf("%s: %+v, %v", aud, got, err)
		}
		if strings.ContainsAny(tok, "/+= ?&%#") {
			t.Errorf("%s does not fit into a URL's path", tok)
		}
		// Another value of the same lab's key (another process) agrees.
		if _, err := testKey(t, "lab-1", root).Verify(aud, tok, now); err != nil {
			t.Errorf("%s in another process: %v", aud, err)
		}
	}
	// Lab, audience and expiry are the signer's, never the caller's.
	forged := k.Sign(Member, Claims{Lab: "other", Audience: AdminKey, Expires: 1 << 60}, now, time.Second)
	if c, err := k.Verify(Member, forged, now); err != nil || c.Lab != "lab-1" || c.Audience != Member || c.Expires != now.Unix()+1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRefused(t *testing.T) {
	k := testKey(t, "lab-1", root)
	good := k.Sign(Member, Claims{Member: "m1"}, now, time.Minute)
	payload, sig, _ := strings.Cut(good, ".")
	resign := func(p string) string { return p + "." + enc.EncodeToString(k.mac(Member, p)) }
	encode := base64.RawURLEncoding.EncodeToString
	for name, c := range map[string]struct {
		tok    string
		at     time.Time
		reason string
	}{
		"empty":                    {"", now, "token_malformed"},
		"no dot":                   {payload, now, "token_malformed"},
		"only a dot":               {".", now, "token_forged"},
		"no signature":             {payload + ".", now, "token_forged"},
		"no payload":               {"." + sig, now, "token_forged"},
		"too long":                 {good + strings.Repeat("A", 5000), now, "token_malformed"},
		"three parts":              {good + ".x", now, "token_forged"},
		"padded signature":         {good + "=", now, "token_forged"},
		"short signature":          {payload + "." + sig[:20], now, "token_forged"},
		"line end":                 {good + "\n", now, "token_forged"},
		"line end inside":          {payload + "." + sig[:9] + "\r\n" + sig[9:], now, "token_forged"},
		"other payload":            {encode([]byte(`{"lab":"lab-1","aud":"member","exp":9999999999,"sub":"m2"}`)) + "." + sig, now, "token_forged"},
		"signed by another lab":    {testKey(t, "lab-2", root).Sign(Member, Claims{}, now, time.Minute), now, "token_forged"},
		"signed by another key":    {testKey(t, "lab-1", "fedcba9876543210").Sign(Member, Claims{}, now, time.Minute), now, "token_forged"},
		"of another audience":      {k.Sign(URL, Claims{}, now, time.Minute), now, "token_forged"},
		"signed, but no base64":    {resign("!!!"), now, "token_malformed"},
		"signed, but no JSON":      {resign(encode([]byte("{"))), now, "token_malformed"},
		"signed, but a list":       {resign(encode([]byte("[1]"))), now, "token_malformed"},
		"signed for another lab":   {resign(encode([]byte(`{"lab":"lab-2","aud":"member","exp":9999999999}`))), now, "token_audience"},
		"signed for another use":   {resign(encode([]byte(`{"lab":"lab-1","aud":"url","exp":9999999999}`))), now, "token_audience"},
		"signed without an expiry": {resign(encode([]byte(`{"lab":"lab-1","aud":"member"}`))), now, "token_expired"},
		"expired just now":         {good, now.Add(time.Minute), "token_expired"},
		"expired long ago":         {good, now.Add(24 * time.Hour), "token_expired"},
	} {
		got, err := k.Verify(Member, c.tok, c.at)
		if services.KindOf(err) != services.Denied || services.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v (reason %q), want %q", name, err, services.ReasonOf(err), c.reason)
		}
		if got != (Claims{}) {
			t.Errorf("%s: claims %+v beside an error", name, got)
		}
	}
	if _, err := k.Verify(Member, good, now.Add(time.Minute-time.Second)); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
}

// TestForged changes every character of a token in turn.
func TestForged(t *testing.T) {
	k := testKey(t, "lab-1", root)
	good := k.Sign(URL, Claims{Title: "tt", Client: "198.18.0.1"}, now, time.Minute)
	for at := range good {
		for _, c := range []byte("A-9_z.") {
			if good[at] == c {
				continue
			}
			bad := good[:at] + string(c) + good[at+1:]
			if _, err := k.Verify(URL, bad, now); err == nil {
				t.Errorf("position %d of %d as %q passes", at, len(good), c)
			}
		}
	}
	// A token has one form: of the last character no bit is spare.
	passed := 0
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		if _, err := k.Verify(URL, good[:len(good)-1]+string(c), now); err == nil {
			passed++
		}
	}
	if passed != 1 {
		t.Errorf("%d last characters pass, want 1", passed)
	}
}

func TestKeys(t *testing.T) {
	if _, err := NewKey("x", make([]byte, 15)); services.KindOf(err) != services.Invalid {
		t.Errorf("a short key: %v", err)
	}
	k := testKey(t, "lab-1", root)
	if k.Lab() != "lab-1" {
		t.Errorf("lab %q", k.Lab())
	}
	seen := map[string]string{}
	for _, key := range []Key{k, testKey(t, "lab-2", root), testKey(t, "lab-1", root+"x")} {
		for _, aud := range append(audiences, "unheard-of") {
			s := key.Secret(aud)
			what := fmt.Sprintf("%s of %s", aud, key.lab)
			if other, ok := seen[s]; ok {
				t.Errorf("%s and %s have the same secret", what, other)
			}
			seen[s] = what
			if s != key.Secret(aud) || len(key.Derive(aud)) != 32 {
				t.Errorf("%s is %q", what, s)
			}
		}
	}
}

func FuzzVerify(f *testing.F) {
	k := testKey(f, "lab-1", root)
	good := k.Sign(Member, Claims{Member: "m1"}, now, time.Minute)
	f.Add(good)
	f.Add(good + "\n")
	f.Add(k.Sign(URL, Claims{}, now, time.Minute))
	f.Add("e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, tok string) {
		c, err := k.Verify(Member, tok, now)
		if err == nil && tok != good {
			t.Errorf("%q passes as %+v", tok, c)
		}
		if err != nil && services.ReasonOf(err) == "" {
			t.Errorf("%q: %v has no reason", tok, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	k := testKey(b, "lab-1", root)
	tok := k.Sign(URL, Claims{Title: "tt", Client: "198.18.0.1", Session: "s", Trace: "t"}, now, time.Minute)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Verify(URL, tok, now); err != nil {
			b.Fatal(err)
		}
	}
}
