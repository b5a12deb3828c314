package images

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/services"
)

// trial is what a component needs to start alone, and how it shows that it is
// up: what to send it and what it then says. A port that is open says nothing,
// since Docker's proxy opens it first.
type trial struct {
	env    []string
	memory int64 // bytes
	send   string
	expect func(answer []byte) bool
	// run is the command of what is no server: it is up when that succeeds.
	run []string
}

func begins(with string) func([]byte) bool {
	return func(b []byte) bool { return bytes.HasPrefix(b, []byte(with)) }
}

func trialOf(c Component) trial {
	switch c {
	case Cassandra:
		// An OPTIONS frame of protocol 4; 0x06 is SUPPORTED.
		return trial{[]string{"MAX_HEAP_SIZE=512M", "HEAP_NEWSIZE=128M", "JVM_EXTRA_OPTS=-Dcassandra.ring_delay_ms=100 -Dcassandra.memtable_row_overhead_computation_step=1000"}, 2 << 30, "\x04\x00\x00\x00\x05\x00\x00\x00\x00",
			func(b []byte) bool { return len(b) >= 5 && b[0] == 0x84 && b[4] == 0x06 }, nil}
	case Kafka:
		// ApiVersions, version 0, correlation 7.
		return trial{[]string{"KAFKA_HEAP_OPTS=-Xmx256m -Xms256m"}, 1 << 30, "\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x07\xff\xff",
			func(b []byte) bool { return len(b) >= 8 && bytes.Equal(b[4:8], []byte{0, 0, 0, 7}) }, nil}
	case Memcached:
		return trial{nil, 256 << 20, "version\r\n", begins("VERSION "), nil}
	case MariaDB:
		// The server speaks first: length, sequence 0, protocol 10.
		return trial{[]string{"MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1", "MARIADB_INITDB_SKIP_TZINFO=1"}, 1 << 30, "",
			func(b []byte) bool { return len(b) >= 5 && b[3] == 0 && b[4] == 10 }, nil}
	case OpenSearch:
		return trial{[]string{"discovery.type=single-node", "DISABLE_SECURITY_PLUGIN=true", "DISABLE_INSTALL_DEMO_CONFIG=true", "OPENSEARCH_JAVA_OPTS=-Xms256m -Xmx256m"}, 2 << 30,
			"GET / HTTP/1.0\r\n\r\n", begins("HTTP/1.0 200"), nil}
	case FFmpeg:
		return trial{memory: 256 << 20, run: []string{"-hide_banner", "-version"}}
	default: // S3
		return trial{[]string{"ROOT_ACCESS_KEY=trial", "ROOT_SECRET_KEY=trialtrial", "VGW_BACKEND=posix", "VGW_BACKEND_ARG=/tmp"}, 256 << 20,
			"GET / HTTP/1.0\r\n\r\n", begins("HTTP/1."), nil}
	}
}

// tryStart runs a container until it answers, and removes it.
func (e *Engine) tryStart(ctx context.Context, c Choice) (err error) {
	p, err := pinOf(c.Component)
	if err != nil {
		return err
	}
	t := trialOf(c.Component)
	ports, bindings := network.PortSet{}, network.PortMap{}
	port, ok := network.PortFrom(p.port, network.TCP)
	if ok && p.port != 0 {
		ports[port], bindings[port] = struct{}{}, []network.PortBinding{{HostIP: netip.AddrFrom4([4]byte{127, 0, 0, 1})}}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	made, err := e.docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name:   "flix-verify-" + string(c.Component) + "-" + strings.ToLower(rand.Text()[:8]),
		Config: &container.Config{Image: c.Reference, Env: t.env, Cmd: t.run, ExposedPorts: ports},
		HostConfig: &container.HostConfig{
			PortBindings: bindings,
			Resources:    container.Resources{Memory: t.memory},
		},
	})
	if err != nil {
		return e.translate("", err)
	}
	defer func() {
		_, rmErr := e.docker.ContainerRemove(context.WithoutCancel(ctx), made.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		err = errors.Join(err, e.translate("remove the container", rmErr))
	}()
	if _, err := e.docker.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		return e.translate("", err)
	}
	return e.await(ctx, made.ID, port, t)
}

// await asks a container until it answers, or ends; the command of what is no
// server is to end well.
func (e *Engine) await(ctx context.Context, id string, port network.Port, t trial) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := e.docker.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		if err != nil {
			return e.translate("", err)
		}
		if st := r.Container.State; st != nil && !st.Running {
			if len(t.run) > 0 && st.ExitCode == 0 {
				return nil
			}
			return services.Errorf(services.Unavailable, "the container ended with %d; its last lines:\n%s", st.ExitCode, e.lines(context.WithoutCancel(ctx), id))
		}
		if ns := r.Container.NetworkSettings; ns != nil && len(ns.Ports[port]) > 0 {
			b := ns.Ports[port][0]
			if answers(ctx, net.JoinHostPort(b.HostIP.String(), b.HostPort), t) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return services.Errorf(services.Unavailable, "no answer within %s; its last lines:\n%s", startTimeout, e.lines(context.WithoutCancel(ctx), id))
		case <-tick.C:
		}
	}
}

// answers asks once.
func answers(ctx context.Context, addr string, t trial) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline() // set above
	if conn.SetDeadline(deadline) != nil {
		return false
	}
	if _, err := io.WriteString(conn, t.send); err != nil {
		return false
	}
	buf := make([]byte, 64)
	n, _ := io.ReadAtLeast(conn, buf, 12) // what came says enough
	return t.expect(buf[:n])
}

// lines are the last of a container's.
func (e *Engine) lines(ctx context.Context, id string) string {
	r, err := e.docker.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "8"})
	if err != nil {
		return fmt.Sprintf("(none: %v)", err)
	}
	defer r.Close()
	var out last
	if _, err := stdcopy.StdCopy(&out, &out, r); err != nil {
		return fmt.Sprintf("(none: %v)", err)
	}
	return out.String()
}
