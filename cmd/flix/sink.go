package main

import (
	"errors"
	"io"
	"sync"

	"github.com/flix-lab/flix/services"
)

// sink is the standard output of a command. It keeps the first failure: most of
// what prints has no use for an error, and a command whose answer did not arrive
// must not end with 0.
type sink struct {
	w io.Writer

	mu  sync.Mutex
	err error
}

// Write implements io.Writer.
func (s *sink) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err == nil {
			s.err = err
		}
	}
	return n, err
}

// failure is err, or that the output could not be written where the command knows
// of nothing worse.
func (s *sink) failure(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil || err != nil && !errors.Is(err, s.err) {
		return err
	}
	return (&services.Error{Op: "standard output", Kind: services.Unavailable, Err: s.err}).WithRemedy("what was written is not whole: make room, or write elsewhere")
}
