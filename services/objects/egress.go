package objects

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	egressFile = "egress.log"
	// egressCompact is the size at which the log is folded into its sums.
	egressCompact = 4 << 20
)

// egressLog counts the bytes served of each bucket. Every GET leaves a line
// when it ends, so that the count survives the process, however it dies:
//
//	get BUCKET BYTES STATUS "KEY"
//	sum BUCKET BYTES
//
// Sum lines replace the lines before them when the log is compacted, at the
// start and whenever it grows beyond a bound.
type egressLog struct {
	root    *os.Root
	counter *prometheus.CounterVec

	mu     sync.Mutex
	f      *os.File
	size   int64
	totals map[string]uint64
}

func openEgressLog(root *os.Root, counter *prometheus.CounterVec) (*egressLog, error) {
	l := &egressLog{root: root, counter: counter, totals: map[string]uint64{}}
	f, err := root.Open(egressFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		err = l.read(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	for bucket, n := range l.totals {
		counter.WithLabelValues(bucket).Add(float64(n))
	}
	return l, l.compact()
}

// read sums up a log. A line without its end was cut off by a crash and does
// not count.
func (l *egressLog) read(r io.Reader) error {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		bucket, n, err := parseEgress(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return fmt.Errorf("%s: %w", egressFile, err)
		}
		l.totals[bucket] += n
	}
}

// parseEgress reads one line of the log.
func parseEgress(line string) (bucket string, n uint64, err error) {
	f := strings.SplitN(line, " ", 4)
	if len(f) < 3 || f[0] != "get" && f[0] != "sum" || !validBucket(f[1]) {
		return "", 0, fmt.Errorf("unreadable line %q", line)
	}
	n, err = strconv.ParseUint(f[2], 10, 64)
	return f[1], n, err
}

// add counts bytes sent by a GET.
func (l *egressLog) add(bucket, key string, status int, n int64) error {
	line := fmt.Sprintf("get %s %d %d %q\n", bucket, n, status, key)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.totals[bucket] += uint64(max(n, 0))
	l.counter.WithLabelValues(bucket).Add(float64(n))
	// One write call: a kill cannot part it.
	w, err := l.f.WriteString(line)
	l.size += int64(w)
	if err == nil && l.size > egressCompact {
		err = l.compact()
	}
	return err
}

// total returns the bytes served of a bucket since its store was made.
func (l *egressLog) total(bucket string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals[bucket]
}

// compact replaces the log by its sums.
func (l *egressLog) compact() error {
	tmp := tempDir + "/" + egressFile
	f, err := l.root.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	var b strings.Builder
	for bucket, n := range l.totals {
		fmt.Fprintf(&b, "sum %s %d\n", bucket, n)
	}
	if _, err := f.WriteString(b.String()); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := l.root.Rename(tmp, egressFile); err != nil {
		return errors.Join(err, f.Close())
	}
	old := l.f
	l.f, l.size = f, int64(b.Len())
	if old == nil {
		return nil
	}
	return old.Close()
}

func (l *egressLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
