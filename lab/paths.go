package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"

	"github.com/flix-lab/flix/services"
)

// Env is what a lab needs of the process world.
type Env struct {
	// StateHome is $XDG_STATE_HOME or its default.
	StateHome string
	// RuntimeDir is $XDG_RUNTIME_DIR, or empty: a folder in TempDir is used then.
	RuntimeDir string
	TempDir    string
	// Exe is the flix executable, Environ the environment of spawned processes.
	Exe     string
	Environ []string
	// Getenv reads one variable of it.
	Getenv func(string) string
	// Version of the build.
	Version string
	// Differs hears of a daemon of another build, which is "" if it does not say; nil
	// hears nothing.
	Differs func(daemon string)
}

// Paths of one lab.
type Paths struct {
	Name string
	// Home holds every lab's folder.
	Home string
	// Dir holds everything of this lab but its sockets.
	Dir string
	// Sockets is a short path: a unix socket's may have 107 bytes.
	Sockets string
}

// labs is the folder of every lab's folder.
func (e Env) labs() (string, error) {
	if !filepath.IsAbs(e.StateHome) {
		return "", services.Errorf(services.Invalid, "there is no home for a lab's state: neither HOME nor XDG_STATE_HOME is set").WithRemedy("set XDG_STATE_HOME to a folder that can be written")
	}
	return filepath.Join(e.StateHome, "flix", "labs"), nil
}

// unreadable says that the state of labs is not where it belongs, or not this
// user's.
func unreadable(err error) error {
	return services.Errorf(services.Unavailable, "the state of labs cannot be read: %v", err).
		WithRemedy("set XDG_STATE_HOME to a folder that can be read and written; flix lab doctor checks it")
}

var nameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// PathsOf returns the paths of a lab; the name must be a DNS label of at most
// 32 characters. It fails when what is there cannot be looked at, e.g. of another
// user.
func PathsOf(e Env, name string) (Paths, error) {
	if !nameRule.MatchString(name) {
		return Paths{}, services.Errorf(services.Invalid, "--name: %q is not a lab's name", name).WithRemedy("use up to 32 lower-case letters, digits and dashes, e.g. planet-1")
	}
	home, err := e.labs()
	if err != nil {
		return Paths{}, err
	}
	dir := filepath.Join(home, name)
	if _, err := os.Stat(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Paths{}, unreadable(err) // whether there is such a lab cannot be seen
	}
	sum := sha256.Sum256([]byte(dir))
	id := hex.EncodeToString(sum[:6])
	sockets := ""
	// Where they lie already goes before the environment, which need not be that
	// of whoever brought the lab up.
	kept, _ := os.ReadFile(socketsNote(dir)) // "" while nobody has made them
	for _, base := range []string{string(kept), e.RuntimeDir, e.TempDir, "/tmp"} {
		// The name carries the user: a folder of the last two is shared.
		sockets = filepath.Join(base, "flix-"+strconv.Itoa(os.Getuid())+"-"+id)
		if usable(base) && len(sockets) <= maxSocketDir {
			break
		}
	}
	return Paths{Name: name, Home: home, Dir: dir, Sockets: sockets}, nil
}

// socketsNote is the file that says in which folder a lab's sockets lie.
func socketsNote(dir string) string { return filepath.Join(dir, "run", "sockets") }

// maxSocketDir leaves room for the names of sockets within the 107 bytes that a
// unix socket's path may have.
const maxSocketDir = 60

// usable says whether sockets can lie below a folder: it is there, and named
// the same from everywhere.
func usable(dir string) bool {
	st, err := os.Stat(dir)
	return filepath.IsAbs(dir) && err == nil && st.IsDir()
}

// Socket is the daemon's control socket.
func (p Paths) Socket() string { return filepath.Join(p.Sockets, "daemon.sock") }

// Logs is the folder of log files.
func (p Paths) Logs() string { return filepath.Join(p.Dir, "logs") }

// Data is the folder of the instances' data.
func (p Paths) Data() string { return filepath.Join(p.Dir, "data") }

// Exists says whether there is anything of this lab on disk.
func (p Paths) Exists() bool {
	_, err := os.Stat(p.Dir)
	return err == nil
}

// make creates the lab's folders, private to the user.
func (p Paths) make() error {
	for _, d := range []string{p.Dir, p.Logs(), p.Data(), filepath.Join(p.Dir, "run")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return p.unwritable(err)
		}
	}
	if err := os.Mkdir(p.Sockets, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("lab %s: %w", p.Name, err)
	}
	// The folder may lie in a shared one: it must be ours and private.
	var st syscall.Stat_t
	if err := syscall.Lstat(p.Sockets, &st); err != nil {
		return fmt.Errorf("lab %s: %w", p.Name, err)
	}
	if int(st.Uid) != os.Getuid() || st.Mode&syscall.S_IFMT != syscall.S_IFDIR || st.Mode&0o077 != 0 {
		return services.Errorf(services.Denied, "socket folder %s belongs to somebody else or is open to others", p.Sockets).WithRemedy("remove it, or set XDG_RUNTIME_DIR to a private folder")
	}
	if err := p.noteSockets(); err != nil {
		return p.unwritable(err)
	}
	return nil
}

// noteSockets notes where the sockets lie. Several commands may do so at once.
func (p Paths) noteSockets() error {
	note, base := socketsNote(p.Dir), []byte(filepath.Dir(p.Sockets))
	if old, err := os.ReadFile(note); err == nil && bytes.Equal(old, base) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(note), "sockets-")
	if err != nil {
		return err
	}
	_, err = f.Write(base)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), note)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// Names lists the labs that have a folder.
func Names(e Env) ([]string, error) {
	home, err := e.labs()
	if err != nil {
		return nil, err
	}
	ds, err := os.ReadDir(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(err)
	}
	var out []string
	for _, d := range ds {
		if d.IsDir() && nameRule.MatchString(d.Name()) {
			out = append(out, d.Name())
		}
	}
	return out, nil
}

// unwritable says that the lab's state cannot be kept where it belongs.
func (p Paths) unwritable(err error) error {
	return services.Errorf(services.Unavailable, "the state of lab %s cannot be kept: %v", p.Name, err).
		WithRemedy("set XDG_STATE_HOME to a folder that can be written; flix lab doctor checks it")
}
