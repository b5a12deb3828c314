package media

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrCutOff says that a file ends before what it says of itself.
var ErrCutOff = errors.New("cut off")

// endSlack is how much sooner than it says a file may end and be whole: a little,
// and a hundredth of it, for containers that round.
func (o Original) endSlack() time.Duration {
	frame := time.Duration(0)
	if o.FPS > 0 {
		frame = time.Duration(float64(time.Second) / o.FPS)
	}
	return time.Second + frame + o.Duration/100
}

// saysItsEnd says whether the container writes down how long it lasts. Of the
// others ffprobe tells what it found, or guesses.
func (o Original) saysItsEnd() bool {
	return strings.Contains(o.Format, "mp4") || strings.Contains(o.Format, "matroska")
}

// checkEnd fails with ErrCutOff if nothing is there of a file's last moments, as
// after a copy that broke off: the encoder would stretch its last picture over
// what is missing. A stream that ends before the others is none of that.
func (t Tools) checkEnd(ctx context.Context, path string, o Original) error {
	if !o.saysItsEnd() {
		return nil
	}
	due := o.Duration - o.endSlack()
	if due <= 0 {
		return nil
	}
	in, err := inputArgs(path)
	if err != nil {
		return err
	}
	args := append([]string{"-v", "error", "-max_alloc", maxAlloc, "-of", "csv=p=0", "-show_entries", "packet=pts_time,duration_time",
		"-read_intervals", fmt.Sprintf("%.3f%%", due.Seconds())}, in...)
	r, w := io.Pipe()
	last := make(chan time.Duration)
	go func() { last <- lastEnd(r) }()
	_, err = run(ctx, "", t.FFprobe, args, w)
	w.Close() // lastEnd sees the end; it never fails
	end := <-last
	if err != nil {
		return err
	}
	if end < due {
		return fmt.Errorf("%w: the file says that it lasts %s, and of the time after %s nothing is there", ErrCutOff, o.Duration.Round(time.Millisecond), max(end, 0).Round(time.Millisecond))
	}
	return nil
}

// lastEnd reads lines of "start,duration", in seconds, and returns the latest end;
// zero if there is none.
func lastEnd(r io.Reader) (end time.Duration) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		start, long, _ := strings.Cut(sc.Text(), ",")
		end = max(end, seconds(start)+seconds(strings.TrimSuffix(long, ",")))
	}
	_, _ = io.Copy(io.Discard, r) // an overlong line must not block the tool
	return end
}
