// Package child runs the servers that a benchmark starts beside itself. It
// promises that they end with it, however it ends in order: by itself, by an
// error, or by a signal. It never looks for processes that it did not start.
package child

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// grace is how long a server may take to end before it is killed.
const grace = 5 * time.Second

// Context returns one that ends when the benchmark is told to: by Ctrl-C, or as
// timeout and systemd do.
func Context() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// Command is a server that is asked to end when ctx does. It leads a group of
// its own: a Ctrl-C in the terminal reaches the benchmark alone, which ends it
// in order, and a server's workers end with it. Whoever starts it calls End.
func Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return tell(cmd, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	return cmd
}

// End ends servers that were started and waits for them; what is left of one
// after the grace period is killed.
func End(cmds ...*exec.Cmd) {
	for _, c := range cmds {
		_ = tell(c, syscall.SIGTERM) // it may have ended
	}
	for _, c := range cmds {
		late := time.AfterFunc(grace, func() { _ = tell(c, syscall.SIGKILL) })
		_ = c.Wait() // a signal ends it
		late.Stop()
	}
}

// tell sends a signal to a server and to all that it started. It has not been
// waited for, so the number of its group is nobody else's.
func tell(c *exec.Cmd, s syscall.Signal) error { return syscall.Kill(-c.Process.Pid, s) }
