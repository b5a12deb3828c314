package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process identifies an operating-system process beyond its pid, so that a pid
// used again by somebody else is never mistaken for ours.
type Process struct {
	PID int `json:"pid"`
	// StartTicks is field 22 of /proc/PID/stat: clock ticks since boot.
	StartTicks uint64 `json:"start_ticks"`
	Exe        string `json:"exe"`
}

// identify reads the identity of a live process; ok is false when there is no
// such process, or only its zombie.
func identify(pid int) (p Process, ok bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return Process{}, false
	}
	// The command name, in parentheses, may hold anything: fields count from
	// the last closing one.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return Process{}, false
	}
	f := strings.Fields(string(b[i+1:]))
	const state, start = 0, 19 // fields 3 and 22
	if len(f) <= start || f[state] == "Z" || f[state] == "X" {
		return Process{}, false
	}
	ticks, err := strconv.ParseUint(f[start], 10, 64)
	if err != nil {
		return Process{}, false
	}
	exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	if err != nil {
		return Process{}, false
	}
	return Process{PID: pid, StartTicks: ticks, Exe: strings.TrimSuffix(exe, " (deleted)")}, true
}

// Alive says whether the very process is still there. One that was killed is
// there until its last thread has ended: only then what it had open is closed.
// Its first thread may be a zombie before that, without arguments or executable.
func (p Process) Alive() bool {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	ticks, ok := startTicks(p.PID)
	if !ok || ticks != p.StartTicks {
		return false
	}
	if exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(p.PID), "exe")); err == nil && p.Exe != "" && strings.TrimSuffix(exe, " (deleted)") != p.Exe {
		return false
	}
	// A pidfd is readable once every thread has ended.
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err != nil || n == 0
}

func startTicks(pid int) (uint64, bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, false
	}
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, false
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) <= 19 {
		return 0, false
	}
	t, err := strconv.ParseUint(f[19], 10, 64)
	return t, err == nil
}

// Signal sends a signal to the very process, by pidfd; a process that is gone
// is no error.
func (p Process) Signal(sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	// The descriptor pins the process: if it is ours now, the signal reaches it.
	if !p.Alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	return nil
}

// Find returns the live processes of this user whose arguments begin with the
// given ones. A debugger or shell that only mentions them is not meant: theirs
// begin otherwise. It is how a process whose pid a crash kept from the journal
// is found.
func Find(args ...string) []Process {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []Process
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", d.Name(), "cmdline"))
		if err != nil || !begins(strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), args) {
			continue
		}
		var st syscall.Stat_t
		if syscall.Stat(filepath.Join("/proc", d.Name()), &st) != nil || int(st.Uid) != os.Getuid() {
			continue
		}
		if p, ok := identify(pid); ok {
			out = append(out, p)
		}
	}
	return out
}

// begins says whether a command line's arguments, after the program's own
// name, begin with the wanted ones.
func begins(have, want []string) bool {
	return len(have) > len(want) && slices.Equal(have[1:1+len(want)], want)
}

// PSS is the proportional set size of a process in bytes: its private memory
// and its share of what it shares.
func PSS(pid int) (int64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, "Pss:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("memory of process %d: %w", pid, err)
			}
			return kb * 1024, nil
		}
	}
	return 0, fmt.Errorf("memory of process %d: the kernel does not report Pss", pid)
}

// Argument returns the value that follows a flag in a process's command line,
// or "".
func Argument(pid int, flag string) string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return ""
	}
	args := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}
