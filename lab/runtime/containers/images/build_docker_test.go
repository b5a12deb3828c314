package images_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/runtime/containers/images"
)

// TestBuild makes the images of the components in FLIX_TEST_BUILD (names
// between commas, or "all"), which takes minutes, root and the network; then
// again, when nothing is to be done.
func TestBuild(t *testing.T) {
	list := os.Getenv("FLIX_TEST_BUILD")
	if list == "" {
		t.Skip("set FLIX_TEST_BUILD to the names of components, or to all")
	}
	var only []string
	if list != "all" {
		only = strings.Split(list, ",")
	}
	cs, err := images.Parse(only)
	if err != nil {
		t.Fatal(err)
	}
	e := engine(t)
	o := images.BuildOptions{
		Only: cs, Force: os.Getenv("FLIX_TEST_BUILD_FORCE") == "1", TempDir: t.TempDir(), Environ: os.Environ(),
		Progress: func(s images.Step) {
			if s.Done {
				t.Logf("%-16s %6.1f s  %s", s.Name, s.Took.Seconds(), s.Text)
			}
		},
	}
	begin := time.Now()
	made, err := e.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("built in %s: %+v", time.Since(begin).Round(time.Second), made)
	o.Force = false
	again, err := e.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range again {
		if m.Changed {
			t.Errorf("%s was made again from the same", m.Reference)
		}
	}
	left, err := os.ReadDir(o.TempDir)
	if err != nil || len(left) != 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
}

// TestVerifyStart starts every component whose image is here, where
// FLIX_TEST_START names them between commas, or says "all".
func TestVerifyStart(t *testing.T) {
	list := os.Getenv("FLIX_TEST_START")
	if list == "" {
		t.Skip("set FLIX_TEST_START to the names of components, or to all")
	}
	var only []string
	if list != "all" {
		only = strings.Split(list, ",")
	}
	cs, err := images.Parse(only)
	if err != nil {
		t.Fatal(err)
	}
	verdicts, err := engine(t).Verify(t.Context(), images.FromEnv(os.Getenv), cs, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verdicts {
		if v.Problem != "" || v.StartMS <= 0 {
			t.Errorf("%s: %s", v.Reference, v.Problem)
		}
		t.Logf("%-45s %8.0f ms  version %s", v.Reference, v.StartMS, v.Got)
	}
}
