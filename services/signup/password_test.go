package signup

import (
	"strings"
	"testing"
)

const vector = "pbkdf2-sha256$1000$c2FsdHNhbHRzYWx0c2FsdA$n4PA7KayQ8H+KYljp2Dl/38BO3UhEmLfrgsulEpdxsE"

func TestHashPassword(t *testing.T) {
	s, err := HashPassword("correct horse", 1000)
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseHash(s)
	if err != nil {
		t.Fatal(err)
	}
	if h.iterations != 1000 {
		t.Errorf("iterations %d, want 1000", h.iterations)
	}
	for password, want := range map[string]bool{"correct horse": true, "correct horsf": false, "": false} {
		if got, err := h.matches(password); err != nil || got != want {
			t.Errorf("matches(%q) = %v, %v; want %v", password, got, err, want)
		}
	}
	again, _ := HashPassword("correct horse", 1000)
	if again == s {
		t.Error("two hashes of one password are equal: the salt is not random")
	}
	if d, err := HashPassword("x", 0); err != nil || !strings.HasPrefix(d, "pbkdf2-sha256$210000$") {
		t.Errorf("default cost: %q, %v", d, err)
	}
}

// The vector is PBKDF2-HMAC-SHA256 of password "passwd", salt
// "saltsaltsaltsalt" and 1,000 iterations, made with Python's hashlib.
func TestHashMatchesAnotherImplementation(t *testing.T) {
	h, err := parseHash(vector)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := h.matches("passwd"); err != nil || !ok {
		t.Errorf("matches = %v, %v", ok, err)
	}
}

func TestParseHashRefuses(t *testing.T) {
	for _, s := range []string{
		"", "$$$", "bcrypt$1000$c2FsdHNhbHRzYWx0c2FsdA$AAAA",
		strings.Replace(vector, "$1000$", "$0$", 1), strings.Replace(vector, "$1000$", "$-1$", 1),
		strings.Replace(vector, "$1000$", "$99999999999$", 1), strings.Replace(vector, "$1000$", "$+1000$", 1),
		vector + "$", vector[:len(vector)-4], "pbkdf2-sha256$1000$c2FsdA$" + strings.Repeat("A", 43),
	} {
		if _, err := parseHash(s); err == nil {
			t.Errorf("parseHash(%q) took it", s)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(vector)
	f.Add("pbkdf2-sha256$1$c2FsdHNhbHRzYWx0c2FsdA$")
	f.Add("$$$")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err != nil {
			return
		}
		again, err := parseHash(h.String())
		if err != nil || again.String() != h.String() {
			t.Errorf("%q does not survive: %v", s, err)
		}
	})
}
