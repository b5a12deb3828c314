package e2e_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// film makes a video of six seconds.
func film(t testing.TB) string {
	t.Helper()
	wantTool(t, "ffmpeg")
	path := filepath.Join(t.TempDir(), "film.mp4")
	out, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=24", "-f", "lavfi", "-i", "sine=frequency=440",
		"-t", "6", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", path).CombinedOutput()
	if err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	return path
}

// titleAddNeedsFFmpeg adds a title with nothing on PATH.
func titleAddNeedsFFmpeg(l *lab) {
	if l.rt.containers() {
		l.t.Skip("a transcoder's container brings its own ffmpeg")
	}
	file := filepath.Join(l.t.TempDir(), "film.mp4")
	if err := os.WriteFile(file, []byte("not looked at"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	titles, disk := len(read[titleList](l, "title", "ls").Titles), l.originDisk()
	r := l.start([]string{"PATH=" + l.t.TempDir()}, "title", "add", file, "--name", "Unseen").wait()
	wantRefusal(l.t, r, 31, "ffmpeg", "PATH")
	if now := len(read[titleList](l, "title", "ls").Titles); now != titles {
		l.t.Errorf("%d titles before, %d after", titles, now)
	}
	if now := l.originDisk(); now != disk {
		l.t.Errorf("the object stores held %d bytes before, %d after", disk, now)
	}
	if jobs := read[struct{ Jobs []any }](l, "transcode", "status").Jobs; len(jobs) != 0 {
		l.t.Errorf("there are jobs: %v", jobs)
	}
}

// originDisk is how many bytes the object stores have on disk.
func (l *lab) originDisk() (sum int64) {
	l.t.Helper()
	stores, err := filepath.Glob(filepath.Join(l.dir(), "data", "*", "*", "s3", "*"))
	if err != nil || len(stores) == 0 {
		l.t.Fatalf("no object store below %s (%v)", l.dir(), err)
	}
	for _, s := range stores {
		err := filepath.Walk(s, func(_ string, st os.FileInfo, err error) error {
			if err == nil && st.Mode().IsRegular() {
				sum += st.Size()
			}
			return err
		})
		if err != nil {
			l.t.Fatal(err)
		}
	}
	return sum
}

// titleAddPlays takes a video through the whole workflow.
func titleAddPlays(l *lab) {
	t := l.t
	file := film(t)
	before := l.fill()
	r := l.must("title", "add", file, "--name", "Test Card", "-o", "json")
	var added struct {
		Title struct {
			ID    string `json:"id"`
			Live  bool   `json:"live"`
			Rungs []any  `json:"rungs"`
		} `json:"title"`
		Steps []step `json:"steps"`
	}
	decode(t, r, &added)
	wantSteps(t, added.Steps)
	if added.Title.ID != "test-card" || !added.Title.Live || len(added.Title.Rungs) != 3 {
		t.Errorf("title %+v: want test-card, live, with three rungs", added.Title)
	}
	t.Logf("added in %s: %v", r.took, added.Steps)
	for _, region := range threeRegions {
		p := l.play("--title", "Test Card", "--region", region, "--speed", "100x")
		if p.TitleID != "test-card" || p.SecondsPlayed < 5.5 || p.SecondsPlayed > 6.5 || !p.ChecksumOK {
			t.Errorf("near %s: %s, %g s, checksum_ok %v, errors %v", region, p.TitleID, p.SecondsPlayed, p.ChecksumOK, p.Errors)
		}
	}
	found := false
	for _, x := range read[titleList](l, "title", "search", "test card").Titles {
		found = found || x.ID == "test-card" && x.Live
	}
	if !found {
		t.Error("search does not find it")
	}
	jobs := read[struct {
		Jobs []struct {
			Title string  `json:"title_id"`
			State string  `json:"state"`
			Pct   float64 `json:"percent"`
		} `json:"jobs"`
	}](l, "transcode", "status").Jobs
	if len(jobs) != 1 || jobs[0].Title != "test-card" || jobs[0].State != "done" || jobs[0].Pct != 100 {
		t.Errorf("jobs %+v, want one that is done", jobs)
	}
	after := l.fill()
	if after.OriginEgressRatio != 1 || after.UniqueBytes <= before.UniqueBytes || after.OriginEgressBytes != after.UniqueBytes {
		t.Errorf("unique %d → %d bytes, origin egress %d → %d, ratio %g: want the new title's bytes once for each region",
			before.UniqueBytes, after.UniqueBytes, before.OriginEgressBytes, after.OriginEgressBytes, after.OriginEgressRatio)
	}
	again := l.flix("title", "add", file, "--name", "Test Card")
	wantRefusal(t, again, 5, "test-card")
}

// titleWaitsForItsDate adds one that nobody may play yet: it is filled meanwhile,
// every refusal names the date, and it plays when that has come.
func titleWaitsForItsDate(l *lab) {
	t := l.t
	file := film(t)
	wantRefusal(t, l.flix("title", "add", file, "--name", "Too Wide", "--min-sites", "1000"), 2, "1000 sites", "the lab has")
	var added struct {
		Title struct {
			Live      bool      `json:"live"`
			Available time.Time `json:"available"`
			Waiting   string    `json:"waiting"`
		} `json:"title"`
		Appliances int `json:"appliances"`
	}
	far := "2100-01-02T03:04:05Z"
	decode(t, l.must("title", "add", file, "--name", "Next Century", "--available", far, "--min-sites", "2", "-o", "json"), &added)
	if added.Title.Live || !added.Title.Available.Equal(time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)) || !strings.Contains(added.Title.Waiting, far) || added.Appliances == 0 {
		t.Errorf("%+v, want it filled, not live and with its date", added)
	}
	wantRefusal(t, l.flix("play", "--title", "Next Century", "--seconds", "1"), 27, "not live", far)
	wantRefusal(t, l.flix("steer", "explain", "--ip", "198.18.0.7", "--title", "next-century"), 27, "not live", far)
	fill := read[struct {
		Waiting    []string `json:"waiting"`
		WaitingFor []struct {
			Title    string `json:"title"`
			Why      string `json:"why"`
			MinSites int    `json:"min_sites"`
			Sites    int    `json:"sites"`
		} `json:"waiting_for"`
	}](l, "fill", "status")
	if len(fill.Waiting) != 1 || len(fill.WaitingFor) != 1 || fill.WaitingFor[0].Title != "next-century" ||
		!strings.Contains(fill.WaitingFor[0].Why, far) || fill.WaitingFor[0].MinSites != 2 || fill.WaitingFor[0].Sites < 2 {
		t.Errorf("fill status says %+v, want what the title waits for", fill)
	}
	for _, x := range read[titleList](l, "title", "ls").Titles {
		if x.ID == "next-century" && x.Live {
			t.Error("title ls shows it as live")
		}
	}
	l.must("title", "add", file, "--name", "In A Moment", "--available", "1s")
	await(t, 20*time.Second, "the title whose date comes", func() error {
		if r := l.flix("play", "--title", "In A Moment", "--seconds", "1", "--speed", "10x"); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
}
