package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// cpuByRole is the processor time, in seconds, that containers have used since
// they started, by the name that each id has in roles. It reads the kernel's
// own count (cgroup v1 and v2), so the engine must run on this machine.
func cpuByRole(ctx context.Context, roles map[string]string) (map[string]float64, error) {
	args := slices.AppendSeq([]string{"inspect", "--format", "{{.Id}} {{.State.Pid}}"}, maps.Keys(roles))
	out, err := docker(ctx, args...)
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for line := range strings.Lines(string(out)) {
		id, pid, _ := strings.Cut(strings.TrimSpace(line), " ")
		used, err := cpuOf(pid)
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", id, err)
		}
		for short, role := range roles {
			if strings.HasPrefix(id, short) {
				sums[role] += used
			}
		}
	}
	return sums, nil
}

// cpuOf is the processor time of the control group of a process, in seconds.
func cpuOf(pid string) (float64, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", pid, "cgroup"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		// "hierarchy:controllers:path", see cgroups(7)
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) != 3:
		case slices.Contains(strings.Split(parts[1], ","), "cpuacct"):
			ns, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpuacct", parts[2], "cpuacct.usage"))
			if err != nil {
				return 0, err
			}
			n, err := strconv.ParseFloat(strings.TrimSpace(string(ns)), 64)
			return n / 1e9, err
		case parts[0] == "0":
			stat, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", parts[2], "cpu.stat"))
			if os.IsNotExist(err) {
				continue // the unified hierarchy beside version 1 counts nothing
			}
			if err != nil {
				return 0, err
			}
			var us float64
			if _, err := fmt.Sscanf(string(stat), "usage_usec %f", &us); err == nil {
				return us / 1e6, nil
			}
		}
	}
	return 0, fmt.Errorf("process %s: no control group counts its processor time", pid)
}

// cpuRow is a table's row of such figures, the largest first.
func cpuRow(name string, sums map[string]float64) string {
	var roles []string
	total := 0.0
	for r, s := range sums {
		roles = append(roles, r)
		total += s
	}
	slices.SortFunc(roles, func(a, b string) int { return int(1000 * (sums[b] - sums[a])) })
	var parts []string
	for _, r := range roles {
		parts = append(parts, fmt.Sprintf("%s %.1f", r, sums[r]))
	}
	return fmt.Sprintf("| CPU seconds, %s | %.1f: %s | |\n", name, total, strings.Join(parts, ", "))
}
