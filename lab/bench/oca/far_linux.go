package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// farPath is the two namespaces and the wire between them. Each namespace is
// held by a process that sleeps in it.
type farPath struct {
	holders [2]*exec.Cmd
	tuns    [2]*os.File
	wg      sync.WaitGroup
}

// newFarPath lays the path.
func newFarPath(ctx context.Context) (*farPath, error) {
	p := &farPath{}
	for i, ip := range []string{farServerIP, farClientIP} {
		other := []string{farClientIP, farServerIP}[i]
		if err := p.join(ctx, i, ip, other); err != nil {
			p.close()
			return nil, err
		}
	}
	for i := range p.tuns {
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			relay(p.tuns[i], p.tuns[1-i])
		}()
	}
	return p, nil
}

// join makes a namespace with a TUN device whose other end is this process.
func (p *farPath) join(ctx context.Context, i int, ip, other string) error {
	setup := fmt.Sprintf("ip link set lo up && ip tuntap add dev far0 mode tun && ip addr add %s peer %s dev far0 && ip link set far0 mtu %d txqueuelen 10000 up && echo ready && exec sleep 3600", ip, other, farMTU)
	holder := exec.CommandContext(ctx, "unshare", "--net", "sh", "-c", setup)
	out, err := holder.StdoutPipe()
	if err != nil {
		return err
	}
	if err := holder.Start(); err != nil {
		return err
	}
	p.holders[i] = holder
	said := make([]byte, 6)
	if n, err := out.Read(said); err != nil || string(said[:n]) != "ready\n" {
		return fmt.Errorf("no namespace of its own (root and /dev/net/tun are needed): %w", err)
	}
	p.tuns[i], err = openTUN(holder.Process.Pid)
	return err
}

// openTUN opens the device of a process's namespace. The thread that enters it
// is thrown away.
func openTUN(pid int) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	got := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		f, err := func() (*os.File, error) {
			ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
			if err != nil {
				return nil, err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, err
			}
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return nil, err
			}
			req, err := unix.NewIfreq("far0")
			if err != nil {
				return nil, errors.Join(err, unix.Close(fd))
			}
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
				return nil, errors.Join(err, unix.Close(fd))
			}
			return os.NewFile(uintptr(fd), "tun"), nil
		}()
		got <- result{f, err}
	}()
	r := <-got
	return r.f, r.err
}

// packet waits for its time.
type packet struct {
	due  time.Time
	body []byte
}

// relay carries packets one way, half a round trip late, until a device is
// closed.
func relay(from, to *os.File) {
	queue := make(chan packet, farQueue)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p := range queue {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.body); err != nil && errors.Is(err, os.ErrClosed) {
				return
			}
		}
	}()
	for {
		b := make([]byte, farMTU)
		n, err := from.Read(b)
		if err != nil {
			break
		}
		select {
		case queue <- packet{time.Now().Add(farRTT / 2), b[:n]}:
		default: // a full queue loses packets, as a router does
		}
	}
	close(queue)
	<-done
}

func inNamespace(c *exec.Cmd, args []string) []string {
	return append([]string{"nsenter", "--net=/proc/" + strconv.Itoa(c.Process.Pid) + "/ns/net"}, args...)
}

func (p *farPath) inServer(args ...string) []string { return inNamespace(p.holders[0], args) }
func (p *farPath) inClient(args ...string) []string { return inNamespace(p.holders[1], args) }

// close takes the path down.
func (p *farPath) close() {
	for _, t := range p.tuns {
		if t != nil {
			t.Close()
		}
	}
	p.wg.Wait()
	for _, h := range p.holders {
		if h != nil {
			_ = h.Process.Kill() // it has ended
			_ = h.Wait()         // killed
		}
	}
}
