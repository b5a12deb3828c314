package resident

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapping is a range of addresses, end not included.
type mapping struct{ start, end uintptr }

// Release takes the program's own code and constants out of its resident memory:
// most of the pages that a start reads (package variables, tables of types and
// lines, what a command line needs) nothing reads again. A page that is read after
// all comes back from the page cache by itself, at the price of a minor fault.
//
// It leaves what was ever written alone: the pages of a position-independent
// executable that its loader relocated, or code that a debugger patched.
func Release() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("memory of the start: %w", err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("memory of the start: %w", err)
	}
	list, err := clean(bytes.NewReader(smaps), exe)
	if err != nil {
		return fmt.Errorf("memory of the start: /proc/self/smaps: %w", err)
	}
	for _, m := range list {
		if err := unix.Madvise(m.bytes(), unix.MADV_DONTNEED); err != nil {
			return fmt.Errorf("memory of the start: madvise: %w", err)
		}
	}
	return nil
}

// bytes is the memory of a mapping. It is not Go's: the collector does not move
// or free it.
func (m mapping) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), m.start)), m.end-m.start)
}

// clean lists the mappings of a file in the text of smaps (proc_pid_smaps(5)) that
// are as they are in the file: neither writable nor, before, written to.
func clean(smaps io.Reader, file string) ([]mapping, error) {
	var (
		list []mapping
		m    mapping
		ours bool
	)
	s := bufio.NewScanner(smaps)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 {
			return nil, fmt.Errorf("cannot read the line %q", s.Text())
		}
		if start, end, ok := strings.Cut(fields[0], "-"); ok {
			a, err1 := strconv.ParseUint(start, 16, 64)
			b, err2 := strconv.ParseUint(end, 16, 64)
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			m = mapping{uintptr(a), uintptr(b)}
			ours = strings.HasSuffix(s.Text(), " "+file) && strings.HasPrefix(fields[1], "r-") && strings.HasSuffix(fields[1], "p")
			continue
		}
		if ours && fields[0] == "Anonymous:" && fields[1] == "0" {
			list = append(list, m)
		}
	}
	return list, s.Err()
}
