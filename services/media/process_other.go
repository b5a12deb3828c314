//go:build !linux

package media

import "syscall"

// processAttr gives a tool its own process group.
func processAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
