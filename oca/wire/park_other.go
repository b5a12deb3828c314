//go:build !linux

package wire

import "sync"

// parker would let idle connections wait without a goroutine; here each has a
// fresh one.
type parker struct{ running *sync.WaitGroup }

func newParker(*Server) (*parker, error) { return &parker{}, nil }

func (*parker) park(*conn) bool   { return false }
func (*parker) unpark(*conn) bool { return false }
func (*parker) forget(*conn)      {}
func (*parker) run()              {}
func (*parker) close()            {}

// led is nobody here.
type led struct{ now bool }

func (*led) wants() bool         { return false }
func (*led) look(*conn, *Answer) {}
func (*conn) leave()             {}
