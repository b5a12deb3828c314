package lab

import (
	"os"
	"sync"

	"github.com/flix-lab/flix/services"
)

// folderLog is the file of --access-log. Its methods are safe for concurrent use.
type folderLog struct {
	name string

	mu sync.Mutex
	f  *os.File
}

func openFolderLog(name string) (*folderLog, error) {
	f, err := openToAppend(name)
	if err != nil {
		return nil, services.Errorf(services.Invalid, "--access-log: %v", err).WithRemedy("name a file that can be written, or - for the standard output")
	}
	return &folderLog{name: name, f: f}, nil
}

func openToAppend(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// reopen goes on in the file that has the name now, as who has renamed the one
// before wants it. That one stays in use if there is an error.
func (l *folderLog) reopen() error {
	f, err := openToAppend(l.name)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.f
	l.f = f
	return old.Close()
}

// Write implements io.Writer.
func (l *folderLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(b)
}

// Close implements io.Closer.
func (l *folderLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
