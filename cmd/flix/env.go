package main

import (
	"io"
	"os"
	"os/user"
	"path/filepath"

	"golang.org/x/term"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
)

// Env is the process world: nothing below main touches package os for it.
type Env struct {
	Args    []string
	Getenv  func(string) string
	Environ []string
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	// OutTTY and ErrTTY say whether those are terminals.
	OutTTY, ErrTTY bool
	// OutWidth and ErrWidth are the columns that those have now, 0 where they are
	// no terminals; nil is unknown, too.
	OutWidth, ErrWidth func() int
	// Exe is this executable.
	Exe     string
	HomeDir string
	TempDir string
	// differs hears of a daemon of another build.
	differs func(daemon string)
}

func osEnv() Env {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	e := Env{
		Args: os.Args[1:], Getenv: os.Getenv, Environ: os.Environ(),
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		OutTTY: term.IsTerminal(int(os.Stdout.Fd())), ErrTTY: term.IsTerminal(int(os.Stderr.Fd())),
		OutWidth: columns(os.Stdout), ErrWidth: columns(os.Stderr),
		Exe: exe, HomeDir: homeDir(), TempDir: os.TempDir(),
	}
	// Any non-empty value turns colour off; some libraries read it as a bool.
	if os.Getenv("NO_COLOR") != "" {
		_ = os.Setenv("NO_COLOR", "1") // cannot fail for a constant name
	}
	return e
}

// homeDir is $HOME, or what the system's users have where a service manager or
// cron sets none: never a folder that others share.
func homeDir() string {
	if home, err := os.UserHomeDir(); err == nil {
		return home
	}
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return "" // lab refuses to keep a state there
}

// columns tells the width of a terminal, which may change at any time.
func columns(f *os.File) func() int {
	return func() int {
		w, _, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0
		}
		return w
	}
}

// lab is what package lab needs of the process world.
func (e Env) lab() lab.Env {
	state := e.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		state = filepath.Join(e.HomeDir, ".local", "state")
	}
	return lab.Env{
		StateHome: state, RuntimeDir: e.Getenv("XDG_RUNTIME_DIR"), TempDir: e.TempDir,
		Exe: e.Exe, Environ: e.Environ, Getenv: e.Getenv, Version: version(), Differs: e.differs,
	}
}

// out renders data to stdout; errOut messages to stderr.
func (e Env) out() render.Screen {
	return render.Screen{W: e.Out, TTY: e.OutTTY, Color: e.OutTTY && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb", Width: e.OutWidth}
}

func (e Env) errOut() render.Screen {
	return render.Screen{W: e.Err, TTY: e.ErrTTY, Color: e.ErrTTY && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb", Width: e.ErrWidth}
}
