// Package input reads what a person names on a command line: files that may be
// pipes without a writer, terminals and devices. Whatever it waits for ends with
// its context, so that an interrupt ends the command. It keeps nothing.
package input

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Open opens a file for reading. Opening a pipe waits for its writer, reading for
// what is written; both end with the error of ctx once ctx ends. The caller closes
// what is returned. The errors are those of package os.
func Open(ctx context.Context, name string) (io.ReadCloser, error) {
	f, err := open(ctx, name)
	if err != nil {
		return nil, err
	}
	// A deadline that is past ends the read that waits. Files on disks take none,
	// and make nobody wait.
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	return &file{File: f, ctx: ctx, stop: stop}, nil
}

// ReadFile reads a whole file as Open does. One of more than most bytes is an error.
func ReadFile(ctx context.Context, name string, most int64) ([]byte, error) {
	f, err := Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return b, nil
}

// Reader reads r until ctx ends. The standard input may be a terminal, whose read
// nothing calls back: that one read is left behind, and the program's end ends it.
func Reader(ctx context.Context, r io.Reader) io.Reader { return &reader{ctx: ctx, r: r} }

// file ends reading with its context.
type file struct {
	*os.File
	ctx  context.Context
	stop func() bool
}

func (f *file) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := f.File.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) && f.ctx.Err() != nil {
		err = f.ctx.Err()
	}
	return n, err
}

func (f *file) Close() error {
	f.stop()
	return f.File.Close()
}

// open is os.Open, which for a pipe comes back when somebody writes to it, or ctx
// ends: the pipe is then opened for writing for an instant, which lets go of it.
func open(ctx context.Context, name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return os.Open(name)
	}
	type opened struct {
		f   *os.File
		err error
	}
	done := make(chan opened, 1)
	go func() {
		f, err := os.Open(name)
		done <- opened{f, err}
	}()
	select {
	case o := <-done:
		return o.f, o.err
	case <-ctx.Done():
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		w, err := os.OpenFile(name, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			_ = w.Close() // nothing was written
		} else if !errors.Is(err, syscall.ENXIO) { // gone, or not ours to write: nothing lets go of it
			return nil, ctx.Err()
		}
		select {
		case o := <-done:
			if o.err == nil {
				_ = o.f.Close() // nothing was read
			}
			return nil, ctx.Err()
		case <-again.C: // ENXIO means that the open has not begun
		}
	}
}

// reader has each read done by a goroutine, which one that never ends outlives.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	type result struct {
		b   []byte
		err error
	}
	done := make(chan result, 1)
	b := make([]byte, len(p)) // not p: a read left behind must not write to it
	go func() {
		n, err := r.r.Read(b)
		done <- result{b[:n], err}
	}()
	select {
	case got := <-done:
		return copy(p, got.b), got.err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}
