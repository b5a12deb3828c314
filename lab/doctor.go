package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/lab/runtime/embedded"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Finding is one result of a preflight check.
type Finding struct {
	Check string `json:"check"`
	// Level is ok, note (a part will be missing) or problem (a lab will fail).
	Level  string `json:"level"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
	Fixed  bool   `json:"fixed,omitempty"`
}

// Diagnosis is the JSON of "flix lab doctor".
type Diagnosis struct {
	Findings []Finding `json:"findings"`
	Problems int       `json:"problems"`
}

// wantFiles is how many open files a lab of six regions may need in one process.
const wantFiles = 4096

// Doctor looks for what would keep a lab from working, and for what dead labs
// left behind; with fix it reaps that.
func Doctor(ctx context.Context, env Env, fix bool) (Diagnosis, error) {
	var d Diagnosis
	for _, check := range []func() Finding{checkSystem, checkFiles, checkMemory, checkPorts, func() Finding { return checkState(env) }, func() Finding { return checkFFmpeg() }, func() Finding { return checkDocker(ctx, env) }} {
		d.Findings = append(d.Findings, check())
	}
	left, err := leftovers(ctx, env, fix)
	if err != nil {
		return d, err
	}
	d.Findings = append(d.Findings, left...)
	strays, err := strayImages(ctx, env, fix)
	if err != nil {
		return d, err
	}
	d.Findings = append(d.Findings, strays...)
	for _, f := range d.Findings {
		if f.Level == "problem" && !f.Fixed {
			d.Problems++
		}
	}
	return d, nil
}

func checkSystem() Finding {
	f := Finding{Check: "system", Level: "ok", Text: fmt.Sprintf("%s/%s, %d CPUs", goruntime.GOOS, goruntime.GOARCH, goruntime.NumCPU())}
	if goruntime.GOOS != "linux" {
		f.Level, f.Remedy = "problem", "the lab needs Linux: its processes are told apart by /proc and ended by pidfd"
	}
	return f
}

func checkFiles() Finding {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return Finding{Check: "open files", Level: "note", Text: err.Error(), Remedy: "raise it if processes fail with \"too many open files\": ulimit -n 65536"}
	}
	f := Finding{Check: "open files", Level: "ok", Text: fmt.Sprintf("a process may open %d", r.Max)}
	if r.Max < wantFiles {
		f.Level, f.Remedy = "problem", fmt.Sprintf("a lab may need %d: ulimit -n 65536", wantFiles)
	}
	return f
}

func checkMemory() Finding {
	free := FreeMemory()
	need := int64(memoryBase + 3*memoryRegion)
	f := Finding{Check: "memory", Level: "ok", Text: fmt.Sprintf("%d MiB free; three regions take about %d", free>>20, need>>20)}
	if free > 0 && free < need {
		f.Level, f.Remedy = "problem", "free some memory, or use fewer regions: flix lab up --regions 1"
	}
	return f
}

func checkPorts() Finding {
	free := 0
	for n := portFirst; n+slotSize-1 <= portLast; n += slotSize {
		if slotHeld(n) { // to try its ports would get in the way of who starts there
			continue
		}
		if l, err := net.Listen("tcp", net.JoinHostPort(publicAddress, strconv.Itoa(n))); err == nil {
			_ = l.Close()
			free++
		}
	}
	f := Finding{Check: "ports", Level: "ok", Text: fmt.Sprintf("%d of %d slots of ports from %d to %d look free", free, slots, portFirst, portLast)}
	if free < 12 {
		f.Level, f.Remedy = "problem", "a lab needs two slots a region: end programs that listen there (ss -ltnp)"
	}
	return f
}

func checkState(env Env) Finding {
	dir := filepath.Join(env.StateHome, "flix")
	f := Finding{Check: "state", Level: "ok", Text: dir + " can be written"}
	probe := dir
	for { // the nearest folder that is there
		if _, err := os.Stat(probe); err == nil {
			break
		}
		probe = filepath.Dir(probe)
	}
	if err := syscall.Access(probe, 2 /* W_OK */); err != nil {
		f.Level, f.Text, f.Remedy = "problem", fmt.Sprintf("%s: %v", probe, err), "set XDG_STATE_HOME to a folder of yours"
	}
	return f
}

func checkFFmpeg() Finding {
	for _, tool := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(tool); err != nil {
			return Finding{Check: "ffmpeg", Level: "note", Text: tool + " is not on PATH: flix title add will not work", Remedy: "install it: apt-get install ffmpeg"}
		}
	}
	b, err := exec.Command("ffmpeg", "-hide_banner", "-version").Output()
	if err != nil {
		return Finding{Check: "ffmpeg", Level: "note", Text: "ffmpeg does not run: " + err.Error(), Remedy: "install it anew: apt-get install --reinstall ffmpeg"}
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return Finding{Check: "ffmpeg", Level: "ok", Text: first}
}

func checkDocker(ctx context.Context, env Env) Finding {
	version, err := containers.Version(ctx, env.Getenv)
	if err != nil {
		f := Finding{Check: "docker", Level: "note", Text: err.Error()}
		if e := new(services.Error); errors.As(err, &e) {
			f.Remedy = e.Remedy
		}
		return f
	}
	f := Finding{Check: "docker", Level: "ok", Text: version}
	if why := containers.Missing(ctx, env.Getenv, env.Exe, topology.Containers{}); why != "" {
		f.Level, f.Text, f.Remedy = "note", version+"; "+why, "not needed on the embedded runtime"
	}
	return f
}

// leftovers finds labs whose daemon is dead, and processes of labs whose
// folder is gone.
func leftovers(ctx context.Context, env Env, fix bool) ([]Finding, error) {
	var out []Finding
	names, err := Names(env)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, n := range names {
		p, err := PathsOf(env, n)
		if err != nil {
			return nil, err
		}
		known[p.Dir] = true
		if len(embedded.Find(daemonArgs(p)...)) > 0 {
			continue
		}
		f, err := deadLab(ctx, env, p, fix)
		if err != nil {
			return nil, err
		}
		if f != nil {
			out = append(out, *f)
		}
	}
	for _, verb := range []string{DaemonVerb, HostVerb} {
		for _, x := range embedded.Find(verb, "--lab-dir") {
			dir := embedded.Argument(x.PID, "--lab-dir")
			if dir == "" || known[dir] || filepath.Dir(dir) != filepath.Join(env.StateHome, "flix", "labs") {
				continue
			}
			f := Finding{Check: "leftovers", Level: "problem", Text: fmt.Sprintf("process %d belongs to a lab that is gone (%s)", x.PID, dir), Remedy: "flix lab doctor --fix ends it"}
			if fix {
				if err := endDaemon(ctx, x, false); err != nil {
					return nil, err
				}
				f.Fixed = true
			}
			out = append(out, f)
		}
	}
	strays, err := containerLeftovers(ctx, env, known, fix)
	if err != nil {
		return nil, err
	}
	out = append(out, strays...)
	if len(out) == 0 {
		out = append(out, Finding{Check: "leftovers", Level: "ok", Text: "nothing of a dead lab is left"})
	}
	return out, nil
}

// containerLeftovers finds what labs whose folder is gone left on the container
// engine. Without an engine there is nothing.
func containerLeftovers(ctx context.Context, env Env, known map[string]bool, fix bool) ([]Finding, error) {
	dirs, err := containers.Labs(ctx, env.Getenv)
	if err != nil {
		return nil, nil
	}
	var out []Finding
	for dir, name := range dirs {
		if known[dir] || filepath.Dir(dir) != filepath.Join(env.StateHome, "flix", "labs") {
			continue // it is another user's, or another lab home's
		}
		f := Finding{Check: "leftovers", Level: "problem", Text: fmt.Sprintf("lab %s is gone (%s) and left containers, volumes or a network", name, dir), Remedy: "flix lab doctor --fix removes them"}
		if fix {
			if err := containers.Clear(ctx, env.Getenv, name, dir); err != nil {
				return nil, err
			}
			f.Fixed = true
		}
		out = append(out, f)
	}
	return out, nil
}

// strayImages finds images of flix's own that no lab uses. They cost nothing but
// disk. Without an engine there are none.
func strayImages(ctx context.Context, env Env, fix bool) ([]Finding, error) {
	kept := map[string]bool{}
	names, err := Names(env)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		p, err := PathsOf(env, n)
		if err != nil {
			return nil, err
		}
		j, err := journal.OpenReadOnly(journal.Path(p.Dir))
		if err != nil {
			return nil, nil // who knows what that lab counts on
		}
		for _, e := range j.List(journal.Image) {
			kept[e.ID] = true
		}
		if err := j.Close(); err != nil {
			return nil, err
		}
	}
	strays, err := containers.StrayImages(ctx, env.Getenv, func(tag string) bool { return kept[tag] })
	if err != nil || len(strays) == 0 {
		return nil, nil
	}
	untagged := 0
	for _, s := range strays {
		if s.Tag == "" {
			untagged++
		}
	}
	f := Finding{Check: "images", Level: "note", Text: fmt.Sprintf("%d images of flix's own are used by nothing (%d of them have no name)", len(strays), untagged), Remedy: "flix lab doctor --fix removes them"}
	if fix {
		if err := containers.RemoveImages(ctx, env.Getenv, strays); err != nil {
			return nil, err
		}
		f.Fixed = true
	}
	return []Finding{f}, nil
}

// deadLab judges a lab whose daemon is dead. One with data and no process was
// stopped with --keep-data: that is no leftover.
func deadLab(ctx context.Context, env Env, p Paths, fix bool) (*Finding, error) {
	j, err := journal.OpenReadOnly(journal.Path(p.Dir))
	alive := len(embedded.Find(HostVerb, "--lab-dir", p.Dir))
	if err == nil && alive == 0 && len(j.List(journal.Process))+len(j.List(journal.Container)) == 0 {
		if i, ierr := readIntent(p.Dir); ierr == nil && i != nil {
			return nil, nil
		}
	}
	f := &Finding{Check: "leftovers", Level: "problem", Text: fmt.Sprintf("the daemon of lab %s is dead; %d of its processes run", p.Name, alive), Remedy: fmt.Sprintf("flix lab up%s goes on with it; flix lab doctor --fix ends and removes it", nameFlag(p.Name))}
	if !fix {
		return f, nil
	}
	if err != nil { // its journal is damaged: the process table still tells
		for _, x := range embedded.Find(HostVerb, "--lab-dir", p.Dir) {
			if err := endDaemon(ctx, x, false); err != nil {
				return nil, err
			}
		}
		f.Fixed = true
		return f, removeLab(p)
	}
	if _, err := Reap(ctx, env, p, false); err != nil {
		return nil, err
	}
	f.Fixed = true
	return f, nil
}
