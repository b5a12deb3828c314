package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// figure is what one drive of one server came to.
type figure struct {
	bytes float64 // per second
	perS  float64 // bytes per processor second of both ends
}

// target is what a ratio of flix to a peer has to reach; zero is no target.
type target struct{ bytes, perS float64 }

// plain compares without TLS.
func (b *bench) plain(ctx context.Context) error {
	large, small := target{1.4, 1.2}, target{1.0, 0}
	for _, c := range []struct {
		file string
		want target
	}{{"2MiB.mp4", large}, {"64KiB.m4s", small}} {
		for _, connections := range []int{16, 64} {
			if err := b.compare(ctx, "plain", b.plainServers, c.file, connections, func(string) target { return c.want }); err != nil {
				return err
			}
		}
	}
	return nil
}

// secure compares over TLS 1.3; the target is against the tuned nginx.
func (b *bench) secure(ctx context.Context) error {
	for _, connections := range []int{16, 64} {
		err := b.compare(ctx, "TLS 1.3", b.tlsServers, "2MiB.mp4", connections, func(peer string) target {
			if strings.Contains(peer, "sndbuf") {
				return target{bytes: 1.0}
			}
			return target{}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// compare drives all servers in turn, another one first in each round, and
// prints the ratios of the first to the others.
func (b *bench) compare(ctx context.Context, title string, servers []server, file string, connections int, want func(peer string) target) error {
	got := make([][]figure, len(servers))
	for round := range b.c.rounds {
		for i := range servers {
			n := (i + round) % len(servers)
			f, err := b.drive(ctx, servers[n], file, connections)
			for try := 1; err == nil && f.bytes == 0 && try < 5; try++ {
				// No answer ended in time: the machine is busy with others.
				f, err = b.drive(ctx, servers[n], file, connections)
			}
			if err == nil && f.bytes == 0 {
				err = fmt.Errorf("%s sends nothing: the machine is too busy to measure anything", servers[n].name)
			}
			if err != nil {
				return err
			}
			got[n] = append(got[n], f)
		}
	}
	fmt.Fprintf(b.out, "\n%s, %s, wrk -c%d: flix %.2f GB/s\n", title, strings.TrimSuffix(strings.TrimSuffix(file, ".mp4"), ".m4s"), connections,
		median(got[0], func(f figure) float64 { return f.bytes })/1e9)
	for n := 1; n < len(servers); n++ {
		bytes, perS := make([]float64, b.c.rounds), make([]float64, b.c.rounds)
		for r := range b.c.rounds {
			bytes[r], perS[r] = got[0][r].bytes/got[n][r].bytes, got[0][r].perS/got[n][r].perS
		}
		w := want(servers[n].name)
		fmt.Fprintf(b.out, "  to %-20s %.2f GB/s   bytes/s %s   bytes/CPU-s of both ends %s\n", servers[n].name,
			median(got[n], func(f figure) float64 { return f.bytes })/1e9, ratio(bytes, w.bytes), ratio(perS, w.perS))
	}
	return nil
}

// ratio prints a median with its range and, if there is one, its target.
func ratio(v []float64, want float64) string {
	v = slices.Sorted(slices.Values(v))
	m := v[len(v)/2]
	text := fmt.Sprintf("×%.2f (%.2f–%.2f)", m, v[0], v[len(v)-1])
	switch {
	case want == 0:
		return text
	case m >= want:
		return text + fmt.Sprintf(" ≥ %.2f met", want)
	}
	return text + fmt.Sprintf(" < %.2f MISSED", want)
}

func median(f []figure, of func(figure) float64) float64 {
	v := make([]float64, 0, len(f))
	for _, x := range f {
		v = append(v, of(x))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

var (
	wrkBytes    = regexp.MustCompile(`([\d.]+)([KMGT]?B) read`)
	wrkSeconds  = regexp.MustCompile(`requests in ([\d.]+)(m?s|m),`)
	wrkTrouble  = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors:.*)$`)
	wrkExponent = map[string]float64{"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
)

// drive runs wrk once.
func (b *bench) drive(ctx context.Context, s server, file string, connections int) (figure, error) {
	before := s.proc.cpu()
	cmd := exec.CommandContext(ctx, "wrk", "-t1", "-c"+strconv.Itoa(connections), "-d"+strconv.Itoa(int(b.c.each.Seconds()))+"s", s.url+file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return figure{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if m := wrkTrouble.FindString(string(out)); m != "" {
		return figure{}, fmt.Errorf("wrk on %s: %s", s.url+file, strings.TrimSpace(m))
	}
	read, took := wrkBytes.FindStringSubmatch(string(out)), wrkSeconds.FindStringSubmatch(string(out))
	if read == nil || took == nil {
		return figure{}, fmt.Errorf("wrk said what is not understood: %s", out)
	}
	n, err := strconv.ParseFloat(read[1], 64)
	if err != nil {
		return figure{}, err
	}
	seconds, err := strconv.ParseFloat(took[1], 64)
	if err != nil {
		return figure{}, err
	}
	n *= wrkExponent[read[2]]
	cpu := s.proc.cpu() - before + cmd.ProcessState.UserTime().Seconds() + cmd.ProcessState.SystemTime().Seconds()
	return figure{bytes: n / seconds, perS: n / cpu}, nil
}
