package oca

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
)

func TestAdmittedTokensExpireAndAreBounded(t *testing.T) {
	key, err := token.NewKey("lab", bytes.Repeat([]byte("k"), 16))
	if err != nil {
		t.Fatal(err)
	}
	var a admitted
	tok := key.Sign(token.URL, token.Claims{Title: "tt-a"}, testNow, time.Minute)
	for range 2 {
		if c, err := a.verify(key, tok, testNow); err != nil || c.Title != "tt-a" {
			t.Fatalf("a good token: %+v %v", c, err)
		}
	}
	if _, err := a.verify(key, tok, testNow.Add(time.Minute)); services.ReasonOf(err) != "token_expired" {
		t.Errorf("a remembered token that has expired: %v", err)
	}
	if _, err := a.verify(key, tok+"A", testNow); services.KindOf(err) != services.Denied {
		t.Errorf("a forged token: %v", err)
	}
	for i := range maxAdmitted + 10 {
		if _, err := a.verify(key, key.Sign(token.URL, token.Claims{Title: fmt.Sprint(i)}, testNow, time.Minute), testNow); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(a.recent) + len(a.before); n > maxAdmitted {
		t.Errorf("%d tokens are remembered", n)
	}
}

// A token is remembered while somebody plays with it, and not for long after.
func TestAdmittedTokensAreForgotten(t *testing.T) {
	key, err := token.NewKey("lab", bytes.Repeat([]byte("k"), 16))
	if err != nil {
		t.Fatal(err)
	}
	var a admitted
	verify := func(tok string, at time.Duration) {
		t.Helper()
		if _, err := a.verify(key, tok, testNow.Add(at)); err != nil {
			t.Fatal(err)
		}
	}
	knows := func(tok string) bool {
		_, recent := a.recent[tok]
		_, before := a.before[tok]
		return recent || before
	}
	played := key.Sign(token.URL, token.Claims{Title: "tt-played"}, testNow, time.Hour)
	left := key.Sign(token.URL, token.Claims{Title: "tt-left"}, testNow, time.Hour)
	verify(left, 0)
	for at := time.Duration(0); at <= 3*admittedFor; at += admittedFor / 4 {
		verify(played, at)
		if !knows(played) {
			t.Fatalf("after %v the token in use is forgotten", at)
		}
		if at < admittedFor && !knows(left) {
			t.Fatalf("after %v a token is forgotten already", at)
		}
	}
	if knows(left) {
		t.Error("a token that nobody comes with is remembered")
	}
	verify(played, -time.Hour) // the clock was set back
	verify(played, -time.Hour+admittedFor)
	if len(a.recent) != 1 || !knows(played) {
		t.Errorf("after the clock was set back: %d tokens are recent", len(a.recent))
	}
}
