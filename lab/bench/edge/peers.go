package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/bench/child"
)

// peer is one running server.
type peer struct {
	name, addr, url string
	cmd             *exec.Cmd
	log             string
}

// peers are all of them; measured are the proxies, in the order they are
// measured in.
type peers struct {
	all, measured []*peer
	tls           *peer // flix with a certificate
	missing       []string
	versions      []string
}

func (ps *peers) stop() {
	cmds := make([]*exec.Cmd, len(ps.all))
	for i, p := range ps.all {
		cmds[i] = p.cmd
	}
	child.End(cmds...)
}

// freeAddr finds a loopback address that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func startPeers(ctx context.Context, c config) (*peers, error) {
	ps := new(peers)
	for _, need := range []string{"nginx", "haproxy", "wrk", c.flix} {
		if _, err := exec.LookPath(need); err != nil {
			return ps, fmt.Errorf("%s is needed and missing: %w (apt-get install nginx haproxy wrk; make build)", need, err)
		}
	}
	up, err := ps.nginx(ctx, c)
	if err != nil {
		return ps, err
	}
	if err := ps.haproxy(ctx, c, up.addr); err != nil {
		return ps, err
	}
	if err := ps.flix(ctx, c, up.addr); err != nil {
		return ps, err
	}
	caddy, err := findCaddy(c.caddy)
	if err != nil {
		ps.missing = append(ps.missing, "caddy is missing, its ratios are left out: go install github.com/caddyserver/caddy/v2/cmd/caddy@v2.11.9, then -caddy PATH")
		return ps, nil
	}
	return ps, ps.caddy(ctx, c, caddy, up.addr)
}

// findCaddy looks on the path and where "go install" puts it.
func findCaddy(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	out, err := exec.Command("go", "env", "GOBIN", "GOPATH").Output()
	if err != nil {
		return "", err
	}
	dirs := strings.SplitN(strings.TrimRight(string(out), "\n"), "\n", 2)
	for i, d := range dirs {
		if i == 1 {
			d = filepath.Join(d, "bin")
		}
		if p, err := exec.LookPath(filepath.Join(d, "caddy")); d != "" && err == nil {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}

// start runs a server and waits until it takes connections.
func (ps *peers) start(ctx context.Context, c config, name, addr string, args ...string) (*peer, error) {
	p := &peer{name: name, addr: addr, url: "http://" + addr, log: filepath.Join(c.work, name+".log")}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = child.Command(ctx, args...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, c.work
	p.cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+c.work, "XDG_DATA_HOME="+c.work)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ps.all = append(ps.all, p)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = conn.Close()
			return p, nil
		}
		select {
		case <-ctx.Done():
			b, _ := os.ReadFile(p.log)
			return nil, fmt.Errorf("%s does not listen: %s", name, b)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (ps *peers) write(c config, name, text string) (string, error) {
	path := filepath.Join(c.work, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// nginx is the upstream of all: answers from memory and from a file.
func (ps *peers) nginx(ctx context.Context, c config) (*peer, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	for _, s := range sizes {
		if err := os.WriteFile(filepath.Join(c.work, strconv.Itoa(s.bytes)), []byte(strings.Repeat("x", s.bytes)), 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(c.work, 0o755); err != nil { // its workers are another user
		return nil, err
	}
	conf, err := ps.write(c, "nginx.conf", fmt.Sprintf(`daemon off; worker_processes 1; pid %[1]s/nginx.pid; error_log %[1]s/nginx.err;
events { worker_connections 8192; }
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600; sendfile on; tcp_nopush on;
 client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
 server { listen %[2]s; root %[1]s; location = /15 { return 200 "hello, friends\n"; } location / { default_type application/octet-stream; } } }
`, c.work, addr))
	if err != nil {
		return nil, err
	}
	return ps.start(ctx, c, "nginx", addr, "nginx", "-p", c.work, "-c", conf)
}

func (ps *peers) haproxy(ctx context.Context, c config, up string) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	conf, err := ps.write(c, "haproxy.cfg", fmt.Sprintf(`global
 maxconn 8192
defaults
 mode http
 timeout connect 1s
 timeout client 60s
 timeout server 60s
 option forwardfor
 http-reuse always
frontend edge
 bind %s
 default_backend upstream
backend upstream
 server one %s
`, addr, up))
	if err != nil {
		return err
	}
	p, err := ps.start(ctx, c, "haproxy", addr, "haproxy", "-db", "-f", conf)
	if err == nil {
		ps.measured = append(ps.measured, p)
		ps.version("haproxy", "-v")
	}
	return err
}

func (ps *peers) caddy(ctx context.Context, c config, bin, up string) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	conf, err := ps.write(c, "Caddyfile", fmt.Sprintf("{\n admin off\n auto_https off\n persist_config off\n}\nhttp://%s {\n reverse_proxy %s\n}\n", addr, up))
	if err != nil {
		return err
	}
	p, err := ps.start(ctx, c, "caddy", addr, bin, "run", "--adapter", "caddyfile", "--config", conf)
	if err == nil {
		ps.measured = append(ps.measured, p)
		ps.version(bin, "version")
	}
	return err
}

func (ps *peers) flix(ctx context.Context, c config, up string) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	tlsAddr, err := freeAddr()
	if err != nil {
		return err
	}
	if err := writeCert(c.work); err != nil {
		return err
	}
	route := "/=http://" + up
	p, err := ps.start(ctx, c, "flix", addr, c.flix, "serve", "gateway", "--listen", addr, "--route", route)
	if err != nil {
		return err
	}
	ps.measured = append(ps.measured, p)
	ps.tls, err = ps.start(ctx, c, "flix-tls", tlsAddr, c.flix, "serve", "gateway", "--listen", tlsAddr, "--route", route,
		"--tls-cert", filepath.Join(c.work, "cert.pem"), "--tls-key", filepath.Join(c.work, "key.pem"))
	return err
}

func (ps *peers) version(bin, arg string) {
	out, err := exec.Command(bin, arg).CombinedOutput()
	if line, _, _ := strings.Cut(string(out), "\n"); err == nil {
		ps.versions = append(ps.versions, strings.TrimSpace(line))
	}
}

// writeCert makes a certificate for the idle TLS connections.
func writeCert(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

// cpu is the processor time the server has used, user and system.
func (p *peer) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// rss is the server's resident memory in bytes.
func (p *peer) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, errors.New("statm has no figures")
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
