package media

import "syscall"

// processAttr gives a tool its own process group, and has the kernel kill it
// when this process dies without having had the time to.
func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
