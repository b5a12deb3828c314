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
	if len(a.claims) > maxAdmitted {
		t.Errorf("%d tokens are remembered", len(a.claims))
	}
}
