package runtimetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
)

// Unit is the smallest instance there is. On one port it speaks a line
// protocol, by which the suite asks what an instance lives through:
//
//	boot         an id that is new at every start
//	pid          the process it runs in
//	world        the name of the topology in the world it was given last
//	set TEXT     keeps a text in memory
//	get          gives it back
//	write TEXT   keeps a text on disk
//	read         gives it back
//	fail         ends with an error
//	panic        panics
//
// At an orderly end it leaves a file "bye" beside its text on disk; "ended"
// says whether the run before this one did.
type Unit struct {
	dir   string
	l     net.Listener
	world func() runtime.World

	boot   string
	ended  bool
	failed chan error

	mu     sync.Mutex
	memory string
	conns  map[net.Conn]struct{}
	wg     sync.WaitGroup
}

var _ services.Unit = (*Unit)(nil)

// NewUnit returns the unit of a spec on its bound listener.
func NewUnit(spec runtime.Spec, l net.Listener, world func() runtime.World) (*Unit, error) {
	u := &Unit{dir: spec.Dir, l: l, world: world, failed: make(chan error, 1), conns: map[net.Conn]struct{}{}}
	u.boot = fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	err := os.Remove(filepath.Join(u.dir, "bye"))
	u.ended = err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return u, nil
}

// Serve implements services.Unit.
func (u *Unit) Serve(ctx context.Context) error {
	accepted := make(chan error, 1)
	u.wg.Go(func() { accepted <- u.accept() })
	var err error
	select {
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), context.Canceled) { // else it was killed
			err = os.WriteFile(filepath.Join(u.dir, "bye"), nil, 0o600)
		}
	case err = <-accepted:
	case err = <-u.failed:
	}
	u.close()
	u.wg.Wait()
	if err != nil && err.Error() == "panic" {
		panic("the unit was told to panic")
	}
	return err
}

func (u *Unit) close() {
	_ = u.l.Close() // closed already when it was killed
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		_ = c.Close()
	}
	u.conns = nil
}

func (u *Unit) accept() error {
	for {
		c, err := u.l.Accept()
		if err != nil {
			return err
		}
		u.mu.Lock()
		if u.conns == nil {
			u.mu.Unlock()
			_ = c.Close()
			continue
		}
		u.conns[c] = struct{}{}
		u.wg.Go(func() { u.answer(c) })
		u.mu.Unlock()
	}
}

func (u *Unit) answer(c net.Conn) {
	defer func() {
		_ = c.Close()
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.conns, c)
	}()
	sc := bufio.NewScanner(c)
	for sc.Scan() {
		verb, text, _ := strings.Cut(sc.Text(), " ")
		out, err := u.do(verb, text)
		if err != nil {
			out = "error " + err.Error()
		}
		if _, err := fmt.Fprintln(c, out); err != nil {
			return
		}
	}
}

func (u *Unit) do(verb, text string) (string, error) {
	file := filepath.Join(u.dir, "text")
	switch verb {
	case "boot":
		return u.boot, nil
	case "pid":
		return fmt.Sprint(os.Getpid()), nil
	case "ended":
		return fmt.Sprint(u.ended), nil
	case "world":
		return u.world().Topology.Name, nil
	case "set", "get":
		u.mu.Lock()
		defer u.mu.Unlock()
		if verb == "set" {
			u.memory = text
		}
		return u.memory, nil
	case "write":
		return text, os.WriteFile(file, []byte(text), 0o600)
	case "read":
		b, err := os.ReadFile(file)
		return string(b), err
	case "fail", "panic":
		u.failed <- errors.New(verb)
		return verb, nil
	}
	return "", fmt.Errorf("unknown verb %q", verb)
}
