package services

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

var kinds = []Kind{Invalid, NotFound, Denied, Conflict, Unavailable, Exhausted, Internal}

// TestKindTable checks that a kind crosses each edge and comes back, and that
// no two kinds look alike there.
func TestKindTable(t *testing.T) {
	https, grpcs, exits := map[int]Kind{}, map[uint32]Kind{}, map[int]Kind{}
	for _, k := range kinds {
		if got := KindFromHTTP(k.HTTPStatus()); got != k {
			t.Errorf("%s over HTTP (%d) became %s", k, k.HTTPStatus(), got)
		}
		if got := KindFromGRPC(k.GRPCCode()); got != k {
			t.Errorf("%s over gRPC (%d) became %s", k, k.GRPCCode(), got)
		}
		for where, other := range map[string]Kind{"HTTP": https[k.HTTPStatus()], "gRPC": grpcs[k.GRPCCode()], "exit": exits[k.ExitCode()]} {
			if other != "" {
				t.Errorf("%s and %s are the same over %s", k, other, where)
			}
		}
		https[k.HTTPStatus()], grpcs[k.GRPCCode()], exits[k.ExitCode()] = k, k, k
		if k.ExitCode() < 1 || k.ExitCode() >= 20 {
			t.Errorf("%s exits with %d", k, k.ExitCode())
		}
	}
	if Kind("news").HTTPStatus() != Internal.HTTPStatus() {
		t.Error("an unknown kind is not internal")
	}
}

func TestForeignCodes(t *testing.T) {
	for status, want := range map[int]Kind{401: Denied, 404: NotFound, 418: Invalid, 410: Invalid, 429: Exhausted, 500: Internal, 502: Unavailable, 503: Unavailable, 504: Unavailable, 599: Internal, 200: Internal} {
		if got := KindFromHTTP(status); got != want {
			t.Errorf("HTTP %d is %s, want %s", status, got, want)
		}
	}
	for code, want := range map[uint32]Kind{1: Unavailable, 2: Internal, 4: Unavailable, 6: Conflict, 12: Internal, 16: Denied, 99: Internal} {
		if got := KindFromGRPC(code); got != want {
			t.Errorf("gRPC %d is %s, want %s", code, got, want)
		}
	}
}

func TestKindOf(t *testing.T) {
	inner := Errorf(NotFound, "no title").WithReason(ReasonNoTitle).WithRemedy("list them")
	for _, c := range []struct {
		err    error
		kind   Kind
		reason string
	}{
		{errors.New("x"), Internal, ""},
		{inner, NotFound, ReasonNoTitle},
		{Wrap("play", fmt.Errorf("more: %w", inner)), NotFound, ReasonNoTitle},
		{&Error{Kind: Denied, Err: inner}, Denied, ""}, // the first in the chain counts
		{errors.Join(errors.New("x"), inner), NotFound, ReasonNoTitle},
		{context.DeadlineExceeded, Unavailable, ""},
		{fmt.Errorf("x: %w", context.Canceled), Unavailable, ""},
		{&Error{Kind: Conflict, Err: context.Canceled}, Conflict, ""},
	} {
		if KindOf(c.err) != c.kind || ReasonOf(c.err) != c.reason {
			t.Errorf("%v: %s %q, want %s %q", c.err, KindOf(c.err), ReasonOf(c.err), c.kind, c.reason)
		}
	}
	if Wrap("op", nil) != nil {
		t.Error("Wrap made an error of none")
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("refused")
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{&Error{Kind: Denied}, "denied"},
		{&Error{Op: "play", Kind: Denied}, "play"},
		{&Error{Op: "play", Kind: Denied, Msg: "no", Err: cause}, "play: no: refused"},
		{Errorf(Invalid, "%d of %d", 1, 2), "1 of 2"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if !errors.Is(&Error{Err: cause}, cause) {
		t.Error("the cause is lost")
	}
}

// TestProblemRoundTrip sends errors as an HTTP edge does and reads them back.
func TestProblemRoundTrip(t *testing.T) {
	for _, k := range kinds {
		sent := Wrap("op", &Error{Kind: k, Reason: "r", Msg: "why", Remedy: "then"})
		got := ProblemOf(sent).Err()
		var e *Error
		if !errors.As(got, &e) || e.Kind != k || e.Reason != "r" || e.Remedy != "then" || got.Error() != sent.Error() {
			t.Errorf("%s: %#v", k, got)
		}
		if again := ProblemOf(got); again != ProblemOf(sent) {
			t.Errorf("%s: a second hop made %+v of %+v", k, again, ProblemOf(sent))
		}
	}
}
