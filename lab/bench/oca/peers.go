package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/bench/child"
)

// bench is one run: its servers and where its figures go.
type bench struct {
	c     config
	work  string
	out   io.Writer
	procs []*process
	nginx bool // there is one to compare with

	plainServers, tlsServers []server
}

// server is something wrk is pointed at.
type server struct {
	name string
	url  string // with a slash at the end
	proc *process
}

// process is a server's process. All its children count as it.
type process struct {
	cmd  *exec.Cmd
	said bytes.Buffer
}

// files are what is served: name and size in bytes.
var files = map[string]int{"2MiB.mp4": 2 << 20, "64KiB.m4s": 64 << 10, "256MiB.mp4": 256 << 20, "index.json": 64}

// prepare makes the files and the certificate and starts the servers.
func (b *bench) prepare(ctx context.Context) error {
	if _, err := exec.LookPath("wrk"); err != nil {
		return errors.New("wrk is not on PATH: apt-get install wrk")
	}
	if _, err := os.Stat(b.c.flix); err != nil {
		return fmt.Errorf("%s is missing: make build", b.c.flix)
	}
	if err := os.Mkdir(b.root(), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(b.work, 0o755); err != nil { // nginx's workers are nobody
		return err
	}
	for name, size := range files {
		body := make([]byte, size)
		_, _ = rand.Read(body) // it cannot fail
		if err := os.WriteFile(filepath.Join(b.root(), name), body, 0o644); err != nil {
			return err
		}
	}
	if err := b.certify(); err != nil {
		return err
	}
	for _, secure := range []bool{false, true} {
		s, err := b.startFlix(ctx, secure)
		if err != nil {
			return err
		}
		if secure {
			b.tlsServers = append(b.tlsServers, s)
		} else {
			b.plainServers = append(b.plainServers, s)
		}
	}
	if _, err := exec.LookPath("nginx"); err != nil {
		fmt.Fprintln(b.out, "nginx is not on PATH (apt-get install nginx): flix's figures stand alone")
		return nil
	}
	b.nginx = true
	return b.startNginx(ctx)
}

func (b *bench) root() string { return filepath.Join(b.work, "www") }

func (b *bench) startFlix(ctx context.Context, secure bool, wrap ...string) (server, error) {
	port, err := freePort()
	if err != nil {
		return server{}, err
	}
	args := append(wrap, b.c.flix, "serve", "oca", "--root", b.root(), "--listen", "127.0.0.1:"+port, "--no-auth")
	s := server{name: "flix", url: "http://127.0.0.1:" + port + "/"}
	if secure {
		args = append(args, "--tls-cert", b.path("cert.pem"), "--tls-key", b.path("key.pem"))
		s.url = "https://127.0.0.1:" + port + "/"
	}
	s.proc, err = b.start(ctx, s.url, args...)
	return s, err
}

func (b *bench) path(name string) string { return filepath.Join(b.work, name) }

func (b *bench) startNginx(ctx context.Context) error {
	var ports []string
	for range 4 {
		p, err := freePort()
		if err != nil {
			return err
		}
		ports = append(ports, p)
	}
	conf := fmt.Sprintf(`worker_processes 2;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.err;
daemon off;
worker_rlimit_nofile 30000;
events { worker_connections 15000; }
http {
  access_log off;
  sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_timeout 600; keepalive_requests 1000000000;
  client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
  default_type video/mp4;
  root %[2]s;
  ssl_protocols TLSv1.3; ssl_certificate %[1]s/cert.pem; ssl_certificate_key %[1]s/key.pem;
  server { listen 127.0.0.1:%[3]s; }
  server { listen 127.0.0.1:%[4]s sndbuf=256k; open_file_cache max=100 inactive=60s; }
  server { listen 127.0.0.1:%[5]s ssl; }
  server { listen 127.0.0.1:%[6]s ssl sndbuf=256k; open_file_cache max=100 inactive=60s; }
}
`, b.work, b.root(), ports[0], ports[1], ports[2], ports[3])
	if err := os.WriteFile(b.path("nginx.conf"), []byte(conf), 0o644); err != nil {
		return err
	}
	p, err := b.start(ctx, "http://127.0.0.1:"+ports[0]+"/", "nginx", "-p", b.work, "-c", b.path("nginx.conf"))
	if err != nil {
		return err
	}
	url := func(scheme, port string) string { return scheme + "://127.0.0.1:" + port + "/" }
	b.plainServers = append(b.plainServers, server{"nginx", url("http", ports[0]), p}, server{"nginx, sndbuf=256k", url("http", ports[1]), p})
	b.tlsServers = append(b.tlsServers, server{"nginx", url("https", ports[2]), p}, server{"nginx, sndbuf=256k", url("https", ports[3]), p})
	return nil
}

// run starts a server, which runs until stop.
func (b *bench) run(ctx context.Context, args ...string) (*process, error) {
	p := &process{cmd: child.Command(ctx, args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	b.procs = append(b.procs, p)
	return p, nil
}

// start runs a server and waits until it answers.
func (b *bench) start(ctx context.Context, url string, args ...string) (*process, error) {
	p, err := b.run(ctx, args...)
	if err != nil {
		return nil, err
	}
	client := insecure()
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(10 * time.Second); ; {
		resp, err := client.Get(url + "index.json")
		if err == nil {
			resp.Body.Close()
			return p, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s does not answer: %w: %s", args[0], err, p.said.String())
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func insecure() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // its own throw-away certificate
}

// stop ends the servers and waits for them.
func (b *bench) stop() {
	cmds := make([]*exec.Cmd, len(b.procs))
	for i, p := range b.procs {
		cmds[i] = p.cmd
	}
	child.End(cmds...)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// certify writes a throw-away certificate.
func (b *bench) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(b.path("cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(b.path("key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
}

// cpu is the processor time of a process and its children, in seconds.
func (p *process) cpu() float64 {
	total := 0.0
	for _, pid := range p.pids() {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		fields := strings.Fields(rest)
		for _, n := range []int{11, 12} { // utime, stime: proc(5) counts from 1, and two are cut off
			v, err := strconv.ParseFloat(fields[n], 64)
			if err == nil {
				total += v / 100 // USER_HZ
			}
		}
	}
	return total
}

// pids are those of the process and its children.
func (p *process) pids() []int {
	pids := []int{p.cmd.Process.Pid}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pids[0], pids[0]))
	if err != nil {
		return pids
	}
	for _, text := range strings.Fields(string(raw)) {
		if pid, err := strconv.Atoi(text); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// rss is the resident memory of a process and its children, in MiB.
func (p *process) rss() float64 {
	total := 0.0
	for _, pid := range p.pids() {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			continue // it has ended
		}
		pages, err := strconv.ParseFloat(strings.Fields(string(raw))[1], 64)
		if err == nil {
			total += pages * float64(os.Getpagesize()) / (1 << 20)
		}
	}
	return total
}
