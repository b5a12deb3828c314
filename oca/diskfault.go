package oca

import (
	"syscall"
	"time"
)

// DiskFault is an injected fault of an appliance's disk.
type DiskFault struct {
	// Full refuses every write as a full disk does.
	Full bool
	// Delay of each file that is opened for a client, and of each piece written.
	Delay time.Duration
}

// write is what a write meets before it reaches the disk.
func (d DiskFault) write() error {
	d.wait()
	if d.Full {
		return syscall.ENOSPC
	}
	return nil
}

// wait is how long the disk takes.
func (d DiskFault) wait() {
	if d.Delay > 0 {
		time.Sleep(d.Delay)
	}
}
