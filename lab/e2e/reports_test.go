package e2e_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/fault/experiment"
	"github.com/flix-lab/flix/lab/record"
)

// TestReportPages looks at the pages that reports and experiments write, on a desk
// and on a phone, in the light and in the dark: nothing is wider than the screen,
// and the words of the picture are not too small to read.
func TestReportPages(t *testing.T) {
	chromium(t)
	pages := map[string][]byte{"/report": reportPage(t), "/experiment": experimentPage(t)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/favicon.ico" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = w.Write(pages[r.URL.Path]) // a browser that has gone misses nothing
	}))
	t.Cleanup(srv.Close)
	for path := range pages {
		t.Run(path[1:], func(t *testing.T) {
			b := visit(t, srv.URL+path, "svg")
			for _, screen := range []struct {
				name          string
				width, height int64
			}{{"desk", 1200, 900}, {"phone", 360, 740}} {
				b.do(screen.name, chromedp.EmulateViewport(screen.width, screen.height))
				ground := map[string]string{}
				for _, scheme := range []string{"dark", "light"} {
					b.scheme(scheme)
					b.fits(screen.name)
					b.picture(path[1:] + "-" + screen.name + "-" + scheme)
					ground[scheme] = eval[string](b, `getComputedStyle(document.body).color`)
				}
				if ground["light"] == ground["dark"] {
					t.Errorf("%s: the words have the same colour in the light and in the dark, %s", screen.name, ground["light"])
				}
				if wide := eval[float64](b, `document.querySelector("svg").getBoundingClientRect().width`); wide < 600 {
					t.Errorf("%s: the picture is %.0f pixels wide: nobody can read it", screen.name, wide)
				}
			}
			b.quiet()
		})
	}
}

func reportPage(t *testing.T) []byte {
	began := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	r := record.Record{
		ID: "574598f449a05381", Kind: "failover", Subject: "us-east", Started: began, Ended: began.Add(10 * time.Second), State: "done",
		Summary: "failover of us-east: done",
		Figures: []record.Figure{{Name: "requests in the region after", Value: 2, Better: "less"}, {Name: "bytes", Value: 5110722, Unit: "bytes"}},
		Series:  []record.Series{{Name: "requests us-east", Unit: "1/s", Points: []record.Point{{At: 0, Value: 10}, {At: 10, Value: 1}}}},
		Phases:  []record.Phase{{Name: "check", From: 0, To: 9, Text: "a title plays in every saver: us-west, eu-west, ap-northeast, sa-east"}},
		Notes:   []string{"https://api.flix.test/discovery/search?limit=5&q=harbor-lights-harbor-lights-harbor-lights"},
	}
	before := r
	before.ID, before.Figures = "6ca9b7974c5449b7", []record.Figure{{Name: "requests in the region after", Value: 7, Better: "less"}}
	var out bytes.Buffer
	if err := record.HTML(&out, r, &before); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func experimentPage(t *testing.T) []byte {
	began := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	res := experiment.Result{
		Experiment: experiment.Experiment{Name: "a-name", Title: "An appliance dies, and players switch", Claim: "A client gets a ranked list of appliances."},
		Verdict:    "fails", Reason: "appliance_switches is 0, wanted at least 1", Started: began, MS: 20000, FaultAtMS: 5000, FaultEndMS: 15000,
		Groups: map[string]experiment.Figures{}, Statistics: "proportions: Wilson score intervals",
		Checks: []experiment.Check{{Name: "RankAppliances fallback_success", Bound: "at least 1"}},
		Faults: []fault.Fault{{ID: "f-0cdf8bea", Kind: "kill", Target: "us-east/us-east-isp-1/oca/1", Began: began, Until: began.Add(5 * time.Second)}},
		Plays:  []experiment.Play{{Group: "control", AtMS: 1000, DelayMS: 20}, {Group: "experiment", AtMS: 7000, DelayMS: 90, Error: "no licence"}},
	}
	var out bytes.Buffer
	if err := res.HTML(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
