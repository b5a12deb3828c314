package input_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/flix-lab/flix/lab/input"
)

func pipe(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestPipeWithoutWriter: an interrupt did not end "flix lab topology validate" on
// a pipe that nobody writes to.
func TestPipeWithoutWriter(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	name := pipe(t)
	go func() {
		_, err := input.ReadFile(ctx, name, 100)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("reading ended with %v, want that it is cancelled", err)
	}
}

// TestPipeWithASilentWriter: somebody has it open and writes a part only.
func TestPipeWithASilentWriter(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	name := pipe(t)
	wrote := make(chan *os.File, 1)
	go func() {
		w, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
		} else if _, err := w.WriteString("half"); err != nil {
			t.Error(err)
		}
		wrote <- w
	}()
	f, err := input.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if w := <-wrote; w != nil {
		defer w.Close()
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(f, b); err != nil || string(b) != "half" {
		t.Fatalf("read %q, %v", b, err)
	}
	cancel()
	if n, err := f.Read(b); !errors.Is(err, context.Canceled) {
		t.Errorf("reading on gave %d bytes and %v, want that it is cancelled", n, err)
	}
}

func TestPipeIsReadToItsEnd(t *testing.T) {
	name := pipe(t)
	go func() {
		if err := os.WriteFile(name, []byte("all of it"), 0o600); err != nil {
			t.Error(err)
		}
	}()
	if b, err := input.ReadFile(t.Context(), name, 100); err != nil || string(b) != "all of it" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if _, err := input.ReadFile(t.Context(), name, 5); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(name, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := input.ReadFile(t.Context(), name, 5); err != nil || string(b) != "12345" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := input.ReadFile(t.Context(), name, 4); err == nil {
		t.Error("a file of more bytes than allowed is read")
	}
	if _, err := input.ReadFile(t.Context(), filepath.Dir(name), 5); err == nil {
		t.Error("a folder is read")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := input.ReadFile(cancelled, name, 5); !errors.Is(err, context.Canceled) {
		t.Errorf("reading after the end: %v", err)
	}
}

func TestReader(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if b, err := io.ReadAll(input.Reader(ctx, strings.NewReader("text"))); err != nil || string(b) != "text" {
		t.Errorf("read %q, %v", b, err)
	}
	silent, writer := io.Pipe()
	defer writer.Close() // which ends the read left behind
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(input.Reader(ctx, silent))
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("reading ended with %v, want that it is cancelled", err)
	}
}
