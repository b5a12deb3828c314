package snapshot

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/flix-lab/flix/services"
)

// xattrPrefix begins the names under which PAX records hold extended
// attributes.
const xattrPrefix = "SCHILY.xattr."

// userXattr begins the attributes that belong to whoever owns a file; the
// others are the system's. An S3 store keeps what it knows of objects in them.
const userXattr = "user."

// Pack writes a directory as a tar archive: directories and regular files with
// their owners, modes, times and user attributes. A file with several names is
// written under each of them. Sockets and pipes hold nothing and are left out;
// links and devices are refused.
func Pack(dir string, w io.Writer) (Content, error) {
	var c Content
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		n, err := packOne(t, path, rel)
		if n >= 0 {
			c.Entries++
			c.Bytes += n
		}
		return err
	})
	return c, errors.Join(err, t.Close())
}

// packOne writes one file; it returns its size, or -1 when it is left out.
func packOne(t *tar.Writer, path, rel string) (int64, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return -1, err
	}
	switch mode := st.Mode(); {
	case mode&(fs.ModeSocket|fs.ModeNamedPipe) != 0:
		return -1, nil
	case !mode.IsDir() && !mode.IsRegular():
		return -1, services.Errorf(services.Conflict, "%s is neither a file nor a directory (%s)", rel, mode.Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	if st, err = f.Stat(); err != nil {
		return -1, err
	}
	h := &tar.Header{Name: filepath.ToSlash(rel), Mode: int64(st.Mode().Perm()), ModTime: st.ModTime(), Typeflag: tar.TypeDir, Format: tar.FormatPAX}
	if st.Mode().IsRegular() {
		h.Typeflag, h.Size = tar.TypeReg, st.Size()
	} else {
		h.Name += "/"
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid = int(sys.Uid), int(sys.Gid)
	}
	if h.PAXRecords, err = xattrs(f); err != nil {
		return -1, err
	}
	if err := t.WriteHeader(h); err != nil {
		return -1, err
	}
	if h.Typeflag == tar.TypeDir {
		return 0, nil
	}
	_, err = io.CopyN(t, f, h.Size)
	return h.Size, err
}

// xattrs returns the user attributes of a file as PAX records.
func xattrs(f *os.File) (map[string]string, error) {
	names, err := list(func(b []byte) (int, error) { return unix.Flistxattr(int(f.Fd()), b) })
	if err != nil || len(names) == 0 {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range strings.Split(strings.TrimRight(string(names), "\x00"), "\x00") {
		if !strings.HasPrefix(name, userXattr) {
			continue
		}
		v, err := list(func(b []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), name, b) })
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", f.Name(), name, err)
		}
		out[xattrPrefix+name] = string(v)
	}
	return out, nil
}

// list asks for the size of an answer first. A file system without attributes
// has none.
func list(ask func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := ask(nil)
		if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		b := make([]byte, n)
		n, err = ask(b)
		if errors.Is(err, unix.ERANGE) { // it grew in between
			continue
		}
		return b[:max(n, 0)], err
	}
}
