package snapshot

import (
	"archive/tar"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flix-lab/flix/services"
)

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// TestRoundTrip packs a directory as a store leaves it and unpacks it elsewhere.
func TestRoundTrip(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, filepath.Join(from, "a", "b", "one"), "1", 0o640)
	write(t, filepath.Join(from, "two"), strings.Repeat("2", 100_000), 0o600)
	if err := os.Mkdir(filepath.Join(from, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(from, "two"), filepath.Join(from, "two-again")); err != nil {
		t.Fatal(err)
	}
	was := time.Date(2020, 1, 2, 3, 4, 5, 6000, time.UTC)
	if err := os.Chtimes(filepath.Join(from, "two"), was, was); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(from, "a"), 0o500); err != nil { // nothing can be made in it afterwards
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, d := range []string{from, to} {
			_ = os.Chmod(filepath.Join(d, "a"), 0o700)
		}
	})
	attributes := unix.Setxattr(filepath.Join(from, "two"), "user.etag", []byte("x\x00y"), 0) == nil
	l, err := net.Listen("unix", filepath.Join(from, "s")) // a store that was killed leaves its socket
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var b bytes.Buffer
	archive, done := Count(&b)
	c, err := Pack(from, archive)
	if err != nil {
		t.Fatal(err)
	}
	counted, err := done()
	if err != nil || counted != c || c.Entries != 7 || c.Bytes != 200_001 {
		t.Errorf("packed %+v, counted %+v, error %v", c, counted, err)
	}
	if err := Unpack(to, bytes.NewReader(b.Bytes()), c); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a/b/one": "1", "two": strings.Repeat("2", 100_000), "two-again": strings.Repeat("2", 100_000)} {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for name, want := range map[string]os.FileMode{"a": 0o500, "a/b/one": 0o640, "two": 0o600, "empty": 0o755} {
		if st, err := os.Stat(filepath.Join(to, name)); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	if st, err := os.Stat(filepath.Join(to, "two")); err != nil || !st.ModTime().Equal(was) {
		t.Errorf("two is of %v, want %v", st.ModTime(), was)
	}
	if _, err := os.Lstat(filepath.Join(to, "s")); err == nil {
		t.Error("the socket was packed")
	}
	v := make([]byte, 16)
	if n, err := unix.Getxattr(filepath.Join(to, "two"), "user.etag", v); attributes && (err != nil || string(v[:n]) != "x\x00y") {
		t.Errorf("attribute %q, %v", v[:max(n, 0)], err)
	}
}

func TestPackRefusesLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(dir, io.Discard); services.KindOf(err) != services.Conflict || !strings.Contains(err.Error(), "link") {
		t.Errorf("a link: %v", err)
	}
}

func archive(t testing.TB, hs ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackRefuses(t *testing.T) {
	file := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: 3}
	}
	most := Content{Entries: 2, Bytes: 6}
	for name, c := range map[string]struct {
		archive []byte
		why     string
	}{
		"up":             {archive(t, file("../x")), "leads out"},
		"absolute":       {archive(t, file("/etc/x")), "leads out"},
		"inside and out": {archive(t, file("a/../../x")), "leads out"},
		"symlink":        {archive(t, tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc"}), "neither"},
		"hard link":      {archive(t, tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}), "neither"},
		"device":         {archive(t, tar.Header{Name: "x", Typeflag: tar.TypeBlock, Mode: 0o600}), "neither"},
		"pipe":           {archive(t, tar.Header{Name: "x", Typeflag: tar.TypeFifo, Mode: 0o600}), "neither"},
		"setuid":         {archive(t, tar.Header{Name: "x", Typeflag: tar.TypeReg, Mode: 0o4755}), "mode"},
		"too many":       {archive(t, file("a"), file("b"), tar.Header{Name: "c", Typeflag: tar.TypeReg, Mode: 0o600}), "more than"},
		"too few":        {archive(t, file("a")), "its manifest says"},
		"too large":      {archive(t, tar.Header{Name: "c", Typeflag: tar.TypeReg, Mode: 0o600, Size: 7}), "more than"},
		"not one":        {bytes.Repeat([]byte("x"), 1024), "no whole archive"},
		"cut short":      {archive(t, file("a"), file("b"))[:700], "its manifest says"},
	} {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			dir := filepath.Join(outer, "d")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			err := Unpack(dir, bytes.NewReader(c.archive), most)
			if services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), c.why) || services.ProblemOf(err).Remedy == "" {
				t.Errorf("%v, want %q", err, c.why)
			}
			if left, err := os.ReadDir(outer); err != nil || len(left) != 1 {
				t.Errorf("beside the directory lie %v (%v)", left, err)
			}
		})
	}
	dir := t.TempDir()
	if err := os.Symlink("/tmp", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(dir, bytes.NewReader(archive(t, file("out/x"))), most); err == nil {
		t.Error("a link that was there was followed out of the directory")
	}
}

func saved(t *testing.T) (string, Manifest) {
	t.Helper()
	dir := t.TempDir()
	p, err := Add(dir, Part{Name: "us-east/a/kv/1", File: "data-1.tar"}, func(w io.Writer) (Content, error) {
		_, err := w.Write([]byte("hello"))
		return Content{1, 5}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	m := Manifest{Format: Format, Name: "x", Lab: "default", Parts: []Part{p}}
	if err := m.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir, m
}

func TestManifest(t *testing.T) {
	dir, want := saved(t)
	m, err := Read(dir)
	if err != nil || m.Bytes() != 5 || m.Parts[0] != want.Parts[0] || m.Parts[0].Content != (Content{1, 5}) {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := m.Verify(dir); err != nil {
		t.Error(err)
	}
	if _, err := Add(dir, Part{File: "data-1.tar"}, nil); err == nil {
		t.Error("a part was overwritten")
	}
	for text, why := range map[string]string{"hellO": "is not what was saved", "hello!": "has not the 5 bytes", "hell": "has not the 5 bytes"} {
		write(t, filepath.Join(dir, "data-1.tar"), text, 0o600)
		if err := m.Verify(dir); services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "data-1.tar")); err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(dir); services.KindOf(err) != services.Invalid {
		t.Errorf("a part is gone: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	if _, err := Read(filepath.Join(t.TempDir(), "x")); services.KindOf(err) != services.NotFound {
		t.Errorf("no snapshot: %v", err)
	}
	for name, edit := range map[string]func(*Manifest){
		"another format": func(m *Manifest) { m.Format = 2 },
		"a file above":   func(m *Manifest) { m.Parts[0].File = "../x" },
		"a name above":   func(m *Manifest) { m.Parts[0].Name = "../../x" },
		"an absolute":    func(m *Manifest) { m.State = []Part{{Name: "/etc/passwd", File: "x"}} },
	} {
		dir, m := saved(t)
		edit(&m)
		if err := m.Write(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); services.KindOf(err) != services.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir, _ := saved(t)
	write(t, filepath.Join(dir, manifestFile), "{", 0o600)
	if _, err := Read(dir); services.KindOf(err) != services.Invalid {
		t.Errorf("a torn manifest: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o700}, tar.Header{Name: "a/b", Typeflag: tar.TypeReg, Mode: 0o600, Size: 3}))
	f.Add(archive(f, tar.Header{Name: "../b", Typeflag: tar.TypeReg, Mode: 0o600}))
	f.Fuzz(func(t *testing.T, b []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_ = Unpack(dir, bytes.NewReader(b), Content{Entries: 10, Bytes: 1 << 16})
		if left, err := os.ReadDir(outer); err != nil || len(left) != 1 {
			t.Errorf("beside the directory lie %v (%v)", left, err)
		}
	})
}
