package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// The 100 ms path is two network namespaces, each with a TUN device, and this
// process between the devices: it reads packets from one and writes them to the
// other 50 ms later. So both ends run the kernel's own TCP over a real round
// trip, and nothing else on the machine is delayed. It needs root.
const (
	farRTT = 100 * time.Millisecond
	// farMTU makes few packets of many bytes: they are copied by this process.
	farMTU = 9000
	// farQueue bounds what is under way in one direction, in packets.
	farQueue = 1 << 14
	// farClient is the first argument that makes this program the client.
	farClient   = "far-client"
	farServerIP = "198.51.100.1"
	farClientIP = "198.51.100.2"
	// farTarget is the least share of nginx's throughput, whose send buffer is
	// the kernel's own: no loss.
	farTarget = 0.95
)

// far compares what one client 100 ms away gets.
func (b *bench) far(ctx context.Context) error {
	path, err := newFarPath(ctx)
	if err != nil {
		fmt.Fprintf(b.out, "\n100 ms path: not measured: %v\n", err)
		return nil
	}
	defer path.close()
	servers, err := b.farServers(ctx, path)
	if err != nil {
		return err
	}
	got := make([][]float64, len(servers))
	for round := range b.c.rounds {
		for i := range servers {
			n := (i + round) % len(servers)
			rate, err := path.download(ctx, servers[n].url+"256MiB.mp4", 8*time.Second)
			if err != nil {
				return err
			}
			got[n] = append(got[n], rate)
		}
	}
	fmt.Fprintf(b.out, "\n%d ms path, one connection, 256 MiB (8 s at most): flix %.0f Mbit/s\n", farRTT.Milliseconds(), med(got[0])*8/1e6)
	for n := 1; n < len(servers); n++ {
		ratios := make([]float64, b.c.rounds)
		for r := range ratios {
			ratios[r] = got[0][r] / got[n][r]
		}
		want := 0.0
		if servers[n].name == "nginx" {
			want = farTarget
		}
		fmt.Fprintf(b.out, "  to %-20s %.0f Mbit/s   bytes/s %s\n", servers[n].name, med(got[n])*8/1e6, ratio(ratios, want))
	}
	return nil
}

func med(v []float64) float64 {
	f := make([]figure, len(v))
	for i, x := range v {
		f[i].bytes = x
	}
	return median(f, func(f figure) float64 { return f.bytes })
}

// farServers starts both servers in the server's namespace.
func (b *bench) farServers(ctx context.Context, path *farPath) ([]server, error) {
	// A key keeps --no-auth on loopback; here the namespace has no way out.
	args := path.inServer(b.c.flix, "serve", "oca", "--root", b.root(), "--listen", farServerIP+":8080", "--key", b.path("sign.key"))
	if _, err := b.run(ctx, args...); err != nil {
		return nil, err
	}
	signed, err := path.sign(ctx, b.c.flix, b.path("sign.key"), "http://"+farServerIP+":8080")
	if err != nil {
		return nil, err
	}
	servers := []server{{name: "flix", url: signed}}
	if !b.nginx {
		return servers, path.await(ctx, servers)
	}
	conf := fmt.Sprintf(`pid %[1]s/far.pid; error_log %[1]s/far.err; daemon off; worker_processes 2; events { worker_connections 100; }
http { access_log off; sendfile on; tcp_nopush on; root %[2]s;
  client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
  server { listen %[3]s:8081; } server { listen %[3]s:8082 sndbuf=256k; } }
`, b.work, b.root(), farServerIP)
	if err := os.WriteFile(b.path("far.conf"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	if _, err := b.run(ctx, path.inServer("nginx", "-p", b.work, "-c", b.path("far.conf"))...); err != nil {
		return nil, err
	}
	servers = append(servers, server{name: "nginx", url: "http://" + farServerIP + ":8081/"}, server{name: "nginx, sndbuf=256k", url: "http://" + farServerIP + ":8082/"})
	return servers, path.await(ctx, servers)
}

// await waits until every server answers the client.
func (p *farPath) await(ctx context.Context, servers []server) error {
	for _, s := range servers {
		for deadline := time.Now().Add(10 * time.Second); ; {
			_, err := p.download(ctx, s.url+"index.json", time.Second)
			if err == nil {
				break
			}
			if time.Now().After(deadline) || ctx.Err() != nil {
				return fmt.Errorf("%s does not answer over the long path: %w", s.name, err)
			}
		}
	}
	return nil
}

// sign asks flix for a URL, once the server has made the key.
func (p *farPath) sign(ctx context.Context, flix, key, base string) (string, error) {
	for deadline := time.Now().Add(10 * time.Second); ; {
		out, err := exec.CommandContext(ctx, flix, "serve", "oca", "sign", "--key", key, "--base", base).Output()
		if err == nil {
			return strings.TrimSpace(string(out)), nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return "", fmt.Errorf("flix serve oca sign: %w", err)
		}
	}
}

// download returns the bytes per second that a client in the other namespace
// gets.
func (p *farPath) download(ctx context.Context, url string, most time.Duration) (float64, error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	args := p.inClient(exe, farClient, url, most.String())
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("client: %w: %s", err, out)
	}
	var rate float64
	if _, err := fmt.Sscan(string(out), &rate); err != nil {
		return 0, fmt.Errorf("client said %q: %w", out, err)
	}
	return rate, nil
}

// farMain is the client: it downloads a URL for so long and prints the rate.
func farMain(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "want a URL and a duration")
		return 2
	}
	most, err := time.ParseDuration(args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	start := time.Now()
	resp, err := insecure().Get(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		fmt.Fprintln(os.Stderr, resp.Status)
		return 1
	}
	buf, n := make([]byte, 1<<20), int64(0)
	for time.Since(start) < most {
		m, err := resp.Body.Read(buf)
		n += int64(m)
		if err == io.EOF {
			break
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Println(float64(n) / time.Since(start).Seconds())
	return 0
}
