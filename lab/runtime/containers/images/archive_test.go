package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
)

// file is an entry of a tar.
type file struct {
	tar.Header
	body string
}

func reg(name, body string) file { return file{tar.Header{Name: name, Mode: 0o644}, body} }

func tarOf(t testing.TB, files ...file) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if f.Size == 0 {
			f.Size = int64(len(f.body))
		}
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func hashOf(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

const (
	config = `{"architecture":"amd64"}`
	tag    = "flix/kafka:4.1.0"
)

// inner is a good images.tar, with further files.
func inner(t testing.TB, more ...file) string {
	return tarOf(t, append([]file{reg("a/layer.tar", "layer"), reg("c.json", config), reg(manifestName, `[{"Config":"c.json","RepoTags":["`+tag+`"],"Layers":["a/layer.tar"]}]`)}, more...)...)
}

// manifest is one that fits an images.tar.
func manifest(t testing.TB, images string, change func(*Manifest)) file {
	t.Helper()
	m := Manifest{Format: formatNow, Flix: "v1", Images: []Packed{{Kafka, tag, "sha256:" + hashOf(config)}}, Parts: []Part{{partName, int64(len(images)), hashOf(images)}}}
	if change != nil {
		change(&m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return reg(manifestName, string(b))
}

func whole(t testing.TB, images string, change func(*Manifest)) string {
	return tarOf(t, reg(partName, images), manifest(t, images, change))
}

func TestInspectArchive(t *testing.T) {
	images := inner(t)
	good := whole(t, images, nil)
	for _, sum := range []string{"", hashOf(good), "sha256:" + strings.ToUpper(hashOf(good))} {
		m, offset, err := inspectArchive(strings.NewReader(good), sum, Set{}.owns)
		if err != nil || len(m.Images) != 1 || m.Images[0].Reference != tag {
			t.Fatalf("a good archive: %+v, %v", m, err)
		}
		if got := good[offset : offset+m.Parts[0].Size]; got != images {
			t.Errorf("images.tar is not at %d", offset)
		}
	}
	// In the order in which nothing is written, but which is no worse.
	if _, _, err := inspectArchive(strings.NewReader(tarOf(t, manifest(t, images, nil), reg(partName, images))), "", Set{}.owns); err != nil {
		t.Errorf("the manifest first: %v", err)
	}
}

func TestHostileArchives(t *testing.T) {
	images := inner(t)
	good := whole(t, images, nil)
	link := func(kind byte, name, to string) file {
		return file{tar.Header{Typeflag: kind, Name: name, Linkname: to}, ""}
	}
	evil := func(ref string) string {
		return tarOf(t, reg("a", "layer"), reg("c", config), reg(manifestName, `[{"Config":"c","RepoTags":["`+ref+`"],"Layers":["a"]}]`))
	}
	two := tarOf(t, reg("a", "layer"), reg("c", config), reg("d", "{}"), reg(manifestName, `[{"Config":"c","RepoTags":["`+tag+`"],"Layers":["a"]},{"Config":"d","RepoTags":["debian:12"],"Layers":["a"]}]`))
	cases := map[string]struct{ archive, sum, says string }{
		"empty":                {"", "", "lacks"},
		"no tar":               {strings.Repeat("x", 2048), "", "not a whole tar"},
		"cut short":            {good[:len(good)/2], "", "not a whole tar"},
		"another sum":          {good, hashOf("x"), "its SHA-256 is"},
		"more after the end":   {good + "x", hashOf(good), "its SHA-256 is"},
		"no manifest":          {tarOf(t, reg(partName, images)), "", "lacks"},
		"no images":            {tarOf(t, manifest(t, images, nil)), "", "lacks"},
		"another file":         {tarOf(t, reg(partName, images), manifest(t, images, nil), reg("extra", "")), "", "does not belong"},
		"a part twice":         {tarOf(t, reg(partName, images), reg(partName, images), manifest(t, images, nil)), "", "twice"},
		"a manifest of 2 MiB":  {tarOf(t, reg(partName, images), reg(manifestName, strings.Repeat(" ", 2<<20))), "", "bytes"},
		"a manifest of none":   {tarOf(t, reg(partName, images), reg(manifestName, "{")), "", "no JSON"},
		"a later format":       {whole(t, images, func(m *Manifest) { m.Format = 2 }), "", "its format is 2"},
		"another hash":         {whole(t, images, func(m *Manifest) { m.Parts[0].SHA256 = hashOf("x") }), "", "damaged"},
		"another size":         {whole(t, images, func(m *Manifest) { m.Parts[0].Size++ }), "", "damaged"},
		"another image":        {whole(t, images, func(m *Manifest) { m.Images[0].ID = "sha256:" + hashOf("x") }), "", "another image under that name"},
		"untold images":        {whole(t, images, func(m *Manifest) { m.Images = nil }), "", "tells of 0"},
		"an image told twice":  {whole(t, two, func(m *Manifest) { m.Images = append(m.Images, m.Images[0]) }), "", "does not tell of"},
		"a symbolic link":      {whole(t, inner(t, link(tar.TypeSymlink, "l", "/etc/passwd")), nil), "", "links and devices"},
		"a hard link":          {whole(t, inner(t, link(tar.TypeLink, "l", "a/layer.tar")), nil), "", "links and devices"},
		"a device":             {whole(t, inner(t, file{tar.Header{Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 8}, ""}), nil), "", "links and devices"},
		"a pipe":               {whole(t, inner(t, file{tar.Header{Typeflag: tar.TypeFifo, Name: "p"}, ""}), nil), "", "links and devices"},
		"an absolute name":     {whole(t, inner(t, reg("/etc/cron.d/x", "x")), nil), "", "plain relative name"},
		"a name that leaves":   {whole(t, inner(t, reg("../x", "x")), nil), "", "plain relative name"},
		"a name that winds":    {whole(t, inner(t, reg("a/../b", "x")), nil), "", "plain relative name"},
		"a long name":          {whole(t, inner(t, reg(strings.Repeat("n", 300), "x")), nil), "", "plain relative name"},
		"setuid":               {whole(t, inner(t, file{tar.Header{Name: "s", Mode: 0o4755}, "x"}), nil), "", "setuid"},
		"what is not needed":   {whole(t, inner(t, reg("repositories", `{"debian":{"12":"a"}}`)), nil), "", "does not belong"},
		"two manifests inside": {whole(t, inner(t, reg(manifestName, "[]")), nil), "", "twice"},
		"a layer is missing":   {whole(t, tarOf(t, reg("c", config), reg(manifestName, `[{"Config":"c","RepoTags":["`+tag+`"],"Layers":["a"]}]`)), nil), "", "is not in it"},
		"a foreign tag":        {whole(t, evil("debian:12"), func(m *Manifest) { m.Images[0].Reference = "debian:12" }), "", "no image of the set"},
		"another's tag":        {whole(t, evil("flix/s3:1"), func(m *Manifest) { m.Images[0].Reference = "flix/s3:1" }), "", "no image of the set"},
		"a component's tag":    {whole(t, evil("flix/mariadb:10.11"), func(m *Manifest) { m.Images[0].Reference = "flix/mariadb:10.11" }), "", "no image of the set"},
		"a tag it hides":       {whole(t, evil("debian:12"), nil), "", "is not in it"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, _, err := inspectArchive(strings.NewReader(c.archive), c.sum, Set{}.owns)
			if services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (%s), want one that says %q", err, services.KindOf(err), c.says)
			}
		})
	}
}

// TestSparse checks that a file of holes, which holds more than the archive, is
// refused.
func TestSparse(t *testing.T) {
	err := checked(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1, PAXRecords: map[string]string{"GNU.sparse.major": "1"}})
	if services.KindOf(err) != services.Invalid {
		t.Errorf("sparse: %v", err)
	}
	if err := checked(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: MaxArchive + 1}); services.KindOf(err) != services.Invalid {
		t.Errorf("a file of more than %d bytes: %v", int64(MaxArchive), err)
	}
}

// TestGuard checks that what was changed after it was checked is not handed
// over whole.
func TestGuard(t *testing.T) {
	for _, size := range []int{1, 100, heldBack, heldBack + 1, 10 * heldBack} {
		body := strings.Repeat("b", size)
		g := &guard{r: strings.NewReader(body), left: int64(size), hash: sha256.New(), want: hashOf(body)}
		if got, err := io.ReadAll(g); err != nil || string(got) != body {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
		g = &guard{r: strings.NewReader(body[:size-1] + "x"), left: int64(size), hash: sha256.New(), want: hashOf(body)}
		if got, err := io.ReadAll(g); services.KindOf(err) != services.Invalid || len(got) > max(0, size-heldBack) {
			t.Errorf("%d changed bytes: %d came through, %v", size, len(got), err)
		}
		g = &guard{r: strings.NewReader(body[:size-1]), left: int64(size), hash: sha256.New(), want: hashOf(body)}
		if _, err := io.ReadAll(g); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes of which one is lost: %v", size, err)
		}
	}
}

// TestPlain checks that an engine's archive with links and other formats'
// indexes becomes one that Load takes.
func TestPlain(t *testing.T) {
	saved := tarOf(t,
		file{tar.Header{Typeflag: tar.TypeDir, Name: "a/", Mode: 0o755}, ""},
		reg("a/VERSION", "1.0"), reg("a/json", "{}"), reg("a/layer.tar", "layer"),
		file{tar.Header{Typeflag: tar.TypeSymlink, Name: "b/layer.tar", Linkname: "../a/layer.tar"}, ""},
		reg("c.json", config),
		reg(manifestName, `[{"Config":"c.json","RepoTags":["`+tag+`"],"Layers":["a/layer.tar","b/layer.tar"]}]`),
		reg("oci-layout", "{}"), reg("index.json", "{}"), reg("repositories", "{}"),
	)
	var out bytes.Buffer
	n, ids, err := plain(&out, strings.NewReader(saved))
	if err != nil || n != int64(out.Len()) || ids[tag] != "sha256:"+hashOf(config) {
		t.Fatalf("plain: %d of %d bytes, %v, %v", n, out.Len(), ids, err)
	}
	packed, err := inspectImages(bytes.NewReader(out.Bytes()), n)
	if err != nil || len(packed) != 1 || packed[0].Reference != tag {
		t.Errorf("what was made plain: %v, %v", packed, err)
	}
	if _, _, err := plain(io.Discard, strings.NewReader(tarOf(t, reg("c", config), reg(manifestName, `[{"Config":"c","RepoTags":["x"],"Layers":["gone"]}]`)))); err == nil {
		t.Error("an image without its layer is saved")
	}
}

// FuzzInspectArchive looks for archives that break the reader, or that it takes
// although they carry a tag that is not the set's.
func FuzzInspectArchive(f *testing.F) {
	images := inner(f)
	f.Add([]byte(whole(f, images, nil)))
	f.Add([]byte(images))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, _, err := inspectArchive(bytes.NewReader(b), "", Set{}.owns)
		if err != nil {
			if services.KindOf(err) != services.Invalid {
				t.Errorf("%v is of kind %s", err, services.KindOf(err))
			}
			return
		}
		for _, img := range m.Images {
			if !(Set{}).owns(img.Component, img.Reference) {
				t.Errorf("%s would be loaded", img.Reference)
			}
		}
	})
}
