package e2e_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// process is a live process of a lab.
type process struct {
	pid  int
	args []string
}

// verb is "daemon" or "host".
func (p process) verb() string {
	if len(p.args) < 2 {
		return ""
	}
	return p.args[1]
}

// flag returns the value that follows a flag.
func (p process) flag(name string) string {
	if i := slices.Index(p.args, name); i >= 0 && i+1 < len(p.args) {
		return p.args[i+1]
	}
	return ""
}

func (p process) String() string { return fmt.Sprintf("%d %s", p.pid, strings.Join(p.args, " ")) }

// processes lists the live processes whose command line names the lab's
// folder: its daemon and hosts.
func (w *world) processes() []process {
	return find(func(args []string) bool { return slices.Contains(args, w.dir()) })
}

func find(match func(args []string) bool) []process {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		panic(err) // the pattern is right
	}
	var out []process
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil || ended(pid) {
			continue
		}
		if args := commandLine(pid); match(args) {
			out = append(out, process{pid, args})
		}
	}
	return out
}

// commandLine reads the arguments of a process. One that is being killed may
// have lost its first thread, and /proc/PID/cmdline with it, while others live.
func commandLine(pid int) []string {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/cmdline", pid)) // the pattern is right
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && len(b) > 0 {
			return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		}
	}
	return nil
}

// ended says that no thread of a process lives: it is gone, or a zombie that
// nobody has waited for.
func ended(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // the pattern is right
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		i := bytes.LastIndexByte(b, ')')
		if i >= 0 && i+2 < len(b) && b[i+2] != 'Z' && b[i+2] != 'X' {
			return false
		}
	}
	return true
}

// process finds the lab's daemon, or the host of a region.
func (w *world) process(verb, host string) (process, bool) {
	for _, p := range w.processes() {
		if p.verb() == verb && (verb == "daemon" || p.flag("--host") == host) {
			return p, true
		}
	}
	return process{}, false
}

// pss is the proportional set size of a process in bytes.
func pss(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("process %d: smaps_rollup has no Pss", pid)
}

// listening returns the ports that something listens on, TCP and bound UDP.
func listening() (map[int]bool, error) {
	all, err := listeners()
	out := map[int]bool{}
	for _, l := range all {
		out[l.port] = true
	}
	return out, err
}

// listener is a port of this machine that something listens on.
type listener struct {
	port int
	// loopback says that other machines cannot reach it.
	loopback bool
}

// listeners reads the kernel's tables, TCP and bound UDP.
func listeners() ([]listener, error) {
	var out []listener
	for _, proto := range []string{"tcp", "udp", "tcp6", "udp6"} {
		b, err := os.ReadFile("/proc/net/" + proto)
		if err != nil {
			return nil, err
		}
		for _, l := range strings.Split(string(b), "\n")[1:] {
			f := strings.Fields(l)
			// State 0A is LISTEN; a bound, unconnected UDP socket is 07.
			if len(f) < 4 || (f[3] != "0A" && f[3] != "07") {
				continue
			}
			addr, port, ok := strings.Cut(f[1], ":")
			n, err := strconv.ParseUint(port, 16, 16)
			if !ok || err != nil {
				return nil, fmt.Errorf("/proc/net/%s: %q", proto, l)
			}
			// In the machine's (little-endian) order of bytes: 127.x.y.z ends with 7F.
			// An IPv6 socket of a Java program has the IPv4 address in its last word.
			v4 := strings.HasSuffix(addr, "7F") && (len(addr) == 8 || strings.HasPrefix(addr, "0000000000000000FFFF0000"))
			out = append(out, listener{int(n), v4 || addr == "00000000000000000000000001000000"})
		}
	}
	return out, nil
}

// portNumbers lists the port numbers of a lab that is up.
func (l *lab) portNumbers() []int { l.t.Helper(); return l.portsOf("") }

func portNumber(t testing.TB, address string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantClosed fails if something still listens on one of the ports.
func (w *world) wantClosed(ports []int) {
	w.t.Helper()
	open, err := listening()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range ports {
		if open[p] {
			w.t.Errorf("port %d of the lab still listens after down", p)
		}
	}
}

// wantNothingLeft fails if a process, a socket or a file of the lab is there.
// Sockets and temporary files lie in the world's own TMPDIR.
func (w *world) wantNothingLeft() {
	w.t.Helper()
	for _, p := range w.processes() {
		w.t.Errorf("process left after down: %s", p)
	}
	w.wantNoContainers()
	for _, root := range []string{w.state, w.tmp} {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err == nil && p != root {
				w.t.Errorf("left after down: %s", p)
				if d.IsDir() {
					return filepath.SkipDir
				}
			}
			return err
		})
		if err != nil {
			w.t.Error(err)
		}
	}
}

// kill ends a process as kill -9 does and waits until it is gone.
func (w *world) kill(p process) {
	w.t.Helper()
	proc, err := os.FindProcess(p.pid)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = proc.Release() }()
	if err := proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) { // it may have ended by itself
		w.t.Fatalf("kill -9 %s: %v", p, err)
	}
	await(w.t, 5*time.Second, fmt.Sprintf("the end of killed %s", p), func() error {
		if !ended(p.pid) {
			return errNotYet
		}
		return nil
	})
}

// portsOf lists the port numbers on loopback of a region's instances; of all if region is "".
func (l *lab) portsOf(region string) []int {
	l.t.Helper()
	var out []int
	for _, p := range read[portList](l, "lab", "ports").Ports {
		if region != "" && !strings.HasPrefix(p.Instance, region+"/") {
			continue
		}
		// What a container has to itself is no port of this machine.
		if strings.HasPrefix(p.Address, "127.") {
			out = append(out, portNumber(l.t, p.Address))
		}
	}
	return out
}
