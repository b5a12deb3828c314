package gateway

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestReplayBody(t *testing.T) {
	for _, size := range []int{0, 1, maxReplay, maxReplay + 1, 3 * maxReplay} {
		want := strings.Repeat("x", size)
		b := &replayBody{src: strings.NewReader(want)}
		// A first try reads a little and gives up.
		first := b.open()
		n, _ := io.ReadFull(first, make([]byte, 10))
		_ = first.Close()
		if _, err := first.Read(make([]byte, 1)); !errors.Is(err, errTryOver) {
			t.Errorf("%d: a try that is over reads on: %v", size, err)
		}
		if !b.replayable() {
			t.Fatalf("%d: not replayable after %d bytes", size, n)
		}
		got, err := io.ReadAll(b.open())
		if err != nil || string(got) != want {
			t.Errorf("%d: the second try reads %d bytes, %v", size, len(got), err)
		}
		if b.replayable() != (size <= maxReplay) {
			t.Errorf("%d: replayable is %t", size, b.replayable())
		}
		if b.failure() != nil {
			t.Errorf("%d: failure %v", size, b.failure())
		}
	}
}

func TestReplayBodyKeepsWhatALateReadGets(t *testing.T) {
	pr, pw := io.Pipe()
	b := &replayBody{src: pr}
	first := b.open()
	got := make(chan error, 1)
	go func() {
		_, err := first.Read(make([]byte, 16))
		got <- err
	}()
	_, _ = io.WriteString(pw, "") // the reader is in its read now, or will be
	_ = first.Close()
	go func() {
		_, _ = io.WriteString(pw, "hello")
		_ = pw.Close()
	}()
	all, err := io.ReadAll(b.open())
	if err != nil || string(all) != "hello" {
		t.Errorf("the second try reads %q, %v", all, err)
	}
	<-got
}
