package resident

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const smapsText = `00400000-023d6000 r-xp 00000000 fe:00 10002651    /opt/a b/flix
Rss:               19544 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
023d6000-04f10000 r--p 01fd6000 fe:00 10002651    /opt/flix
Rss:               17704 kB
Anonymous:             0 kB
04f10000-05073000 rw-p 04b10000 fe:00 10002651    /opt/flix
Anonymous:             0 kB
05073000-05083000 r--p 04b10000 fe:00 10002651    /opt/flix
Anonymous:             4 kB
05083000-05093000 r--s 04b10000 fe:00 10002651    /opt/flix
Anonymous:             0 kB
05093000-05096000 r-xp 04b10000 fe:00 10002651    /opt/other
Anonymous:             0 kB
7f34fed50000-7f34ff200000 rw-p 00000000 00:00 0
Anonymous:             0 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0    [vsyscall]
Anonymous:             0 kB
`

// Only what is as it is in the file may be given back: pages that the loader
// relocated, or that can be written, would come back without that.
func TestClean(t *testing.T) {
	for file, want := range map[string][]mapping{
		"/opt/flix":     {{0x023d6000, 0x04f10000}},
		"/opt/a b/flix": {{0x00400000, 0x023d6000}},
		"/opt/none":     nil,
	} {
		got, err := clean(strings.NewReader(smapsText), file)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("clean mappings of %s: %v, %v; want %v", file, got, err, want)
		}
	}
	for _, text := range []string{"what\n", "zz-10 r--p 0 0 0 /opt/flix\n", strings.Repeat("x", 1<<17)} {
		if got, err := clean(strings.NewReader(text), "/opt/flix"); err == nil {
			t.Errorf("smaps %.20q: %v without an error", text, got)
		}
	}
}

// The program goes on with fewer of its own pages.
func TestRelease(t *testing.T) {
	before := fileKB(t)
	if err := Release(); err != nil {
		t.Fatal(err)
	}
	after := fileKB(t)
	t.Logf("%d kB of files were resident, %d are", before, after)
	if after >= before {
		t.Errorf("%d kB of files are resident, %d were before: nothing was given back", after, before)
	}
	if got := strconv.Quote("\u00e9\n") + strings.ToUpper("straße"); got != `"é\n"STRASSE` && got != `"é\n"STRAßE` {
		t.Errorf("after it the program computes %s", got)
	}
}

// fileKB is how much of mapped files is resident.
func fileKB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "RssFile:"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("/proc/self/status: no RssFile")
	return 0
}
