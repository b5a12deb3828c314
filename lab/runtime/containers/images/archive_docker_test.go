package images_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/runtime/containers/images"
	"github.com/flix-lab/flix/services"
)

// tiny puts images of one small file on the engine, as those of components in
// a set of their own, and removes them after the test.
func tiny(t *testing.T, cs ...images.Component) images.Set {
	t.Helper()
	s := images.Set{Prefix: "flixt-" + strings.ToLower(rand.Text()[:8]) + ".invalid"}
	t.Cleanup(func() {
		for _, c := range cs {
			remove(t, s.Official(c))
		}
	})
	for _, c := range cs {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: int64(len(c))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(c)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "docker", "import", "-", s.Official(c))
		cmd.Stdin = &b
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("docker import: %v: %s", err, out)
		}
	}
	return s
}

func remove(t *testing.T, ref string) {
	t.Helper()
	if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "docker", "image", "rm", "--force", ref).CombinedOutput(); err != nil && !bytes.Contains(out, []byte("No such image")) {
		t.Errorf("docker image rm: %v: %s", err, out)
	}
}

func TestSaveLoadVerify(t *testing.T) {
	e := engine(t)
	cs := []images.Component{images.Memcached, images.S3}
	s := tiny(t, cs...)
	before := map[images.Component]string{}
	for _, c := range cs {
		img, err := e.Inspect(t.Context(), s.Official(c))
		if err != nil {
			t.Fatal(err)
		}
		before[c] = img.ID
	}
	file := filepath.Join(t.TempDir(), "images.tar")
	saved, err := e.Save(t.Context(), s, cs, file, "v-test")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() != saved.SizeBytes || len(saved.Images) != 2 {
		t.Fatalf("saved %+v, of %v bytes, %v", saved, info, err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("beside the archive: %v, %v", left, err)
	}

	for _, c := range cs {
		remove(t, s.Official(c))
	}
	verdicts, err := e.Verify(t.Context(), s, cs[:1], false, nil)
	if err != nil || len(verdicts) != 1 {
		t.Fatal(verdicts, err)
	}
	// Where memcached's own image is here, it stands in.
	if v := verdicts[0]; v.Present == (v.Problem != "") || v.Source == images.Official && v.Present {
		t.Errorf("without the image: %+v", v)
	}

	for name, sum := range map[string]string{"another sum": strings.Repeat("0", 64), "no sum": "xyz"} {
		if _, err := e.Load(t.Context(), s, file, sum); services.KindOf(err) != services.Invalid {
			t.Errorf("load with %s: %v", name, err)
		}
	}
	if _, err := e.Load(t.Context(), images.Set{}, file, ""); services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), "no image of the set") {
		t.Errorf("load into another set: %v", err)
	}
	if _, err := e.Inspect(t.Context(), s.Official(images.S3)); services.KindOf(err) != services.NotFound {
		t.Fatalf("an image was loaded from what was refused: %v", err)
	}
	for range 2 { // idempotent
		m, err := e.Load(t.Context(), s, file, saved.SHA256)
		if err != nil || m.Flix != "v-test" || len(m.Images) != 2 {
			t.Fatalf("load: %+v, %v", m, err)
		}
	}
	verdicts, err = e.Verify(t.Context(), s, cs, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verdicts {
		if v.Problem != "" || v.ID != before[v.Component] || v.Reference != s.Official(v.Component) {
			t.Errorf("after load: %+v, want the id %s", v, before[v.Component])
		}
	}
	if ref, err := s.Resolve(t.Context(), e, images.S3); err != nil || ref != s.Official(images.S3) {
		t.Errorf("Resolve = %q, %v", ref, err)
	}
}

// TestVerifyFindsADeadImage checks that an image which cannot start is told of,
// and that its container is gone.
func TestVerifyFindsADeadImage(t *testing.T) {
	e := engine(t)
	s := tiny(t, images.S3)
	verdicts, err := e.Verify(t.Context(), s, []images.Component{images.S3}, true, nil)
	if err != nil || len(verdicts) != 1 || !strings.Contains(verdicts[0].Problem, "it does not start") || verdicts[0].StartMS != 0 {
		t.Fatalf("Verify = %+v, %v", verdicts, err)
	}
	out, err := exec.CommandContext(t.Context(), "docker", "ps", "--all", "--quiet", "--filter", "ancestor="+s.Official(images.S3)).Output()
	if err != nil || len(out) != 0 {
		t.Errorf("containers that are left: %s, %v", out, err)
	}
}

func TestSaveFails(t *testing.T) {
	e := engine(t)
	s := tiny(t, images.S3)
	dir := t.TempDir()
	if _, err := e.Save(t.Context(), s, []images.Component{images.S3}, filepath.Join(dir, "no", "x.tar"), "v"); err == nil {
		t.Error("an archive is saved where there is no folder")
	}
	if _, err := e.Save(t.Context(), s, []images.Component{images.S3}, dir, "v"); services.KindOf(err) != services.Invalid {
		t.Errorf("an archive over a folder: %v", err)
	}
	s.Overrides = map[images.Component]string{images.S3: s.Official(images.S3)}
	if _, err := e.Save(t.Context(), s, []images.Component{images.S3}, filepath.Join(dir, "x.tar"), "v"); services.KindOf(err) != services.Invalid {
		t.Errorf("an override in an archive: %v", err)
	}
	if _, err := e.Load(t.Context(), s, filepath.Join(dir, "none.tar"), ""); services.KindOf(err) != services.NotFound {
		t.Errorf("load of no file: %v", err)
	}
	if _, err := e.Load(t.Context(), s, dir, ""); services.KindOf(err) != services.Invalid {
		t.Errorf("load of a folder: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
