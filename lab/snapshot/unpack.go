package snapshot

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/flix-lab/flix/services"
)

// Unpack makes the files of an archive in a directory, which must be there. It
// takes neither more nor less than promised and refuses everything that Pack
// does not write. Owners are restored when this process may do so. On error the
// directory holds what came before.
func Unpack(dir string, r io.Reader, promised Content) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacking{root: root, most: promised, owner: os.Geteuid() == 0}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return refused("it is no whole archive: %v", err)
		}
		if err := u.one(h, t); err != nil {
			return err
		}
	}
}

func refused(format string, args ...any) error {
	return services.Errorf(services.Invalid, "the archive is refused: "+format, args...).WithRemedy("restore another snapshot: flix lab snapshot ls")
}

type unpacking struct {
	root  *os.Root
	most  Content
	have  Content
	owner bool
	dirs  []*tar.Header
}

func (u *unpacking) one(h *tar.Header, r io.Reader) error {
	name := filepath.Clean(filepath.FromSlash(h.Name))
	u.have.Entries++
	u.have.Bytes += max(h.Size, 0)
	switch {
	case !filepath.IsLocal(name) || strings.ContainsRune(h.Name, 0):
		return refused("%q leads out of the directory", h.Name)
	case h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeReg:
		return refused("%q is neither a file nor a directory", h.Name)
	case h.Mode&^0o777 != 0:
		return refused("%q has mode %o", h.Name, h.Mode)
	case u.have.Entries > u.most.Entries || u.have.Bytes > u.most.Bytes:
		return refused("it holds more than the %d files and %d bytes of its manifest", u.most.Entries, u.most.Bytes)
	}
	h.Name = name
	if h.Typeflag == tar.TypeDir {
		u.dirs = append(u.dirs, h) // what they are is set when nothing more is made in them
		if name == "." {
			return nil
		}
		return u.root.MkdirAll(name, 0o700)
	}
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, u.dress(f, h), f.Close(), u.root.Chtimes(name, h.ModTime, h.ModTime))
}

// dress gives a file its owner, attributes and mode.
func (u *unpacking) dress(f *os.File, h *tar.Header) error {
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, xattrPrefix)
		if !ok || !strings.HasPrefix(name, userXattr) {
			continue
		}
		if err := unix.Fsetxattr(int(f.Fd()), name, []byte(v), 0); err != nil {
			return fmt.Errorf("%s: %s: %w", h.Name, name, err)
		}
	}
	if u.owner {
		if err := f.Chown(h.Uid, h.Gid); err != nil {
			return err
		}
	}
	return f.Chmod(fs.FileMode(h.Mode))
}

func (u *unpacking) finish() error {
	if u.have != u.most { // the end is missing: an archive may end anywhere
		return refused("it holds %d files and %d bytes, its manifest says %d and %d", u.have.Entries, u.have.Bytes, u.most.Entries, u.most.Bytes)
	}
	for _, h := range slices.Backward(u.dirs) {
		f, err := u.root.Open(h.Name)
		if err != nil {
			return err
		}
		if err := errors.Join(u.dress(f, h), f.Close(), u.root.Chtimes(h.Name, h.ModTime, h.ModTime)); err != nil {
			return err
		}
	}
	return nil
}
