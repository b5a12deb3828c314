package folder

import (
	"hash/crc64"
	"io"
	"strconv"
	"time"
)

// clockGrain is how long a file's times may stay the same although it changes:
// the kernel stamps files with the time of its last tick, 10 ms ago at most.
const clockGrain = 20 * time.Millisecond

// digestMost bounds what is read of a file to tell two states of it apart; more
// is not written within clockGrain.
const digestMost = 32 << 20

// recent says whether the file may have changed without another time on it.
func (f *files) recent(s state) bool {
	return f.now().Sub(time.Unix(0, max(s.status, s.modified))) < clockGrain
}

// settled looks at a file again that was opened soon after a change: false if
// its bytes are others now. Once the clock can tell changes apart, it need not
// look any more.
func (f *files) settled(e *entry) bool {
	again, err := digest(e.file, e.size)
	if err != nil || again != e.content {
		return false
	}
	if !f.recent(e.state) {
		e.racy.Store(false)
	}
	return true
}

// digest of the first digestMost bytes.
func digest(r io.ReaderAt, size int64) (uint64, error) {
	h := crc64.New(crc64.MakeTable(crc64.ECMA))
	n, err := io.Copy(h, io.NewSectionReader(r, 0, min(size, digestMost)))
	if err == nil && n < min(size, digestMost) {
		err = io.ErrUnexpectedEOF
	}
	return h.Sum64(), err
}

// etag is strong (RFC 9110, 8.8.1): it differs between any two states that the
// times, the size, or, soon after a change, the bytes tell apart.
func (e *entry) etag() string {
	b := make([]byte, 0, 64)
	b = append(b, '"')
	b = strconv.AppendInt(b, e.modified, 36)
	b = append(b, '-')
	b = strconv.AppendInt(b, e.size, 36)
	b = append(b, '-')
	b = strconv.AppendUint(b, e.inode^uint64(e.status), 36)
	if e.racy.Load() {
		b = append(b, '-')
		b = strconv.AppendUint(b, e.content, 36)
	}
	return string(append(b, '"'))
}
