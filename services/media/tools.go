package media

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Tools are the programs that decode and encode. Every run is confined: no
// network protocols, only known demuxers, bounded CPU time and frame size, an
// empty standard input and environment, its own process group, which dies with
// the context.
type Tools struct {
	// FFmpeg and FFprobe are paths of the executables.
	FFmpeg, FFprobe string
}

// ToolsBeside returns the tools of the installation that ffmpeg belongs to.
func ToolsBeside(ffmpeg string) Tools {
	name := strings.Replace(filepath.Base(ffmpeg), "ffmpeg", "ffprobe", 1)
	return Tools{FFmpeg: ffmpeg, FFprobe: filepath.Join(filepath.Dir(ffmpeg), name)}
}

// demuxers are the formats an original may have: single files that name no
// other file. Playlists, image sequences, concatenations and capture devices
// are not among them.
const demuxers = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,mxf,nut,ivf,h264,hevc,yuv4mpegpipe"

// protocols that ffmpeg may open: the local file and its own pipes.
const protocols = "file,pipe"

const (
	// maxPixels of a decoded frame: 8192×4320, and a little more.
	maxPixels = "36000000"
	// maxAlloc bounds one allocation of ffmpeg, bytes.
	maxAlloc = "536870912"
	// stderrTail is how much of a tool's complaints is kept, bytes.
	stderrTail = 4 << 10
	// killDelay is how long a killed tool's pipes may stay open.
	killDelay = 2 * time.Second
)

// inputArgs are the arguments that open a file safely. The "file:" prefix and
// an absolute path keep a name from being read as an option or a URL.
func inputArgs(path string) ([]string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return []string{"-protocol_whitelist", protocols, "-format_whitelist", demuxers, "-i", "file:" + abs}, nil
}

// ToolError is the failure of a run.
type ToolError struct {
	// Tool is its base name.
	Tool string
	// Output is the end of what it wrote to its standard error.
	Output string
	Err    error
}

func (e *ToolError) Error() string {
	if e.Output == "" {
		return fmt.Sprintf("%s: %v", e.Tool, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Tool, e.Err, e.Output)
}

// Unwrap returns the cause; context.Canceled when the context ended the run.
func (e *ToolError) Unwrap() error { return e.Err }

// run starts a tool in dir and waits for the end of it and of everything it
// started. It returns the end of what the tool wrote to its standard error.
func run(ctx context.Context, dir, tool string, args []string, out io.Writer) (complaints string, err error) {
	errs := &tail{max: stderrTail}
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, errs
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/local/bin:/usr/bin:/bin", "AV_LOG_FORCE_NOCOLOR=1"}
	cmd.SysProcAttr = processAttr()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killDelay
	if err = cmd.Run(); err == nil {
		return errs.String(), nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return "", &ToolError{Tool: filepath.Base(tool), Err: fmt.Errorf("%w: install ffmpeg (Debian: apt-get install ffmpeg)", err)}
	}
	return errs.String(), &ToolError{Tool: filepath.Base(tool), Output: errs.String(), Err: err}
}

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	max int
	b   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > t.max {
		t.b = append(t.b[:0], t.b[len(t.b)-t.max:]...)
	}
	return len(p), nil
}

// String is the tail as one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.FieldsFunc(string(bytes.ToValidUTF8(t.b, []byte("?"))), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// keyValues calls set for each "key=value" line written to the returned
// writer. Close it and wait for done before using what set gathered.
func keyValues(set func(key, value string)) (w *io.PipeWriter, done <-chan struct{}) {
	r, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sc := bufio.NewScanner(r)
		for sc.Scan() {
			if k, v, ok := strings.Cut(sc.Text(), "="); ok {
				set(strings.TrimSpace(k), strings.TrimSpace(v))
			}
		}
		_, _ = io.Copy(io.Discard, r) // an overlong line must not block the tool
	}()
	return w, ended
}
