package e2e_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// playFromEveryRegion plays in real time: what plays a hundred times as fast waits
// for a busy machine, however healthy the lab is.
func playFromEveryRegion(l *lab) {
	plays := map[string]*command{}
	for _, region := range threeRegions {
		plays[region] = l.start(nil, "play", "-o", "json", "--title", "harbor-lights", "--region", region, "--seconds", "6", "--speed", "1x")
	}
	for region, c := range plays {
		r := c.wait()
		if r.code != 0 {
			l.t.Fatalf("it failed: %s", r.story())
		}
		wantFields(l.t, "play", []byte(r.stdout), playFields...)
		for _, a := range elements(l.t, []byte(r.stdout), "appliances") {
			wantFields(l.t, "play appliance", a, "name", "site", "kind", "bytes")
		}
		var p playReport
		decode(l.t, r, &p)
		wantPlayed(l.t, p, 6)
		if p.Region != region || !strings.HasPrefix(p.Gateway, region+"/") || !strings.HasPrefix(p.ISP, region) {
			l.t.Errorf("near %s: answered by %s through %s, client of %s", region, p.Region, p.Gateway, p.ISP)
		}
		if len(p.Candidates) == 0 || len(p.Candidates) > 10 || p.Candidates[0].Kind != "isp" || p.Candidates[0].Site != p.ISP {
			l.t.Errorf("near %s: candidates %+v, want one to ten, the client's own ISP first", region, p.Candidates)
		}
		if len(p.Errors) != 0 || p.Rebuffers != 0 || p.ApplianceSwitches != 0 {
			l.t.Errorf("near %s: %d rebuffers, %d appliance switches, errors %v in a healthy lab", region, p.Rebuffers, p.ApplianceSwitches, p.Errors)
		}
	}
}

var (
	hex32   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	clients = netip.MustParsePrefix("198.18.0.0/15")
)

// wantPlayed checks what every successful play must show.
func wantPlayed(t testing.TB, p playReport, seconds float64) {
	t.Helper()
	if p.TitleID != "harbor-lights" || p.SessionID == "" || !hex32.MatchString(p.TraceID) {
		t.Errorf("title %q, session %q, trace %q", p.TitleID, p.SessionID, p.TraceID)
	}
	if ip, err := netip.ParseAddr(p.ClientIP); err != nil || !clients.Contains(ip) {
		t.Errorf("client address %q is outside %s", p.ClientIP, clients)
	}
	if !p.ChecksumOK || p.SecondsPlayed != seconds || p.Segments == 0 || p.Bytes == 0 || p.PlayDelayMS <= 0 {
		t.Errorf("checksum_ok %v, %g s played (want %g), %d segments, %d bytes, play delay %g ms; errors %v",
			p.ChecksumOK, p.SecondsPlayed, seconds, p.Segments, p.Bytes, p.PlayDelayMS, p.Errors)
	}
	var served uint64
	for _, a := range p.Appliances {
		if a.Name == "" || a.Site == "" || a.Kind != "isp" && a.Kind != "exchange" && a.Kind != "origin" {
			t.Errorf("appliance %+v", a)
		}
		served += a.Bytes
	}
	if served != p.Bytes {
		t.Errorf("the appliances served %d bytes, %d were received", served, p.Bytes)
	}
	video := 0
	for _, r := range p.Rungs {
		if r.ID == "" || r.Kbps <= 0 || r.Height <= 0 || r.Segments <= 0 || !(r.SSIM > 0.5 && r.SSIM <= 1) {
			t.Errorf("rung %+v", r)
		}
		video += r.Segments
	}
	if video == 0 || video > p.Segments || p.MeanKbps <= 0 {
		t.Errorf("%d video segments of %d, mean %g kbit/s", video, p.Segments, p.MeanKbps)
	}
}

func savedFileDecodes(l *lab) {
	t := l.t
	out := filepath.Join(t.TempDir(), "out.mp4")
	p := l.play("--title", "Harbor Lights", "--speed", "100x", "--save", out)
	if _, err := os.Stat(out); err != nil {
		t.Fatalf("the saved file: %v", err)
	}
	wantTool(t, "ffprobe")
	wantTool(t, "ffmpeg")
	probe, err := exec.Command("ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", out).Output()
	if err != nil {
		t.Fatalf("ffprobe: %v", err)
	}
	var found struct {
		Streams []struct {
			Kind string `json:"codec_type"`
		} `json:"streams"`
		Format struct {
			Duration string `json:"duration"`
		} `json:"format"`
	}
	if err := json.Unmarshal(probe, &found); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, s := range found.Streams {
		kinds[s.Kind]++
	}
	d, err := strconv.ParseFloat(found.Format.Duration, 64)
	if err != nil || d < p.SecondsPlayed-1 || d > p.SecondsPlayed+1 || kinds["video"] == 0 || kinds["audio"] == 0 {
		t.Errorf("ffprobe sees streams %v and %q s, want video, audio and %g s", kinds, found.Format.Duration, p.SecondsPlayed)
	}
	said, err := exec.Command("ffmpeg", "-v", "warning", "-xerror", "-i", out, "-f", "null", "-").CombinedOutput()
	if err != nil || len(said) > 0 {
		t.Errorf("ffmpeg does not decode it cleanly: %v\n%s", err, tail(string(said), 10))
	}
}

// wantTool skips the test when a tool is missing, unless it must be there.
func wantTool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("FLIX_REQUIRE_FFMPEG") == "1" {
		t.Fatalf("%s is not on PATH, and FLIX_REQUIRE_FFMPEG=1", name)
	}
	t.Skipf("%s is not on PATH", name)
}

// bandwidthDecidesTheRung plays through a narrow and a wide access link.
func bandwidthDecidesTheRung(l *lab) {
	args := func(b string) []string {
		return []string{"play", "--title", "harbor-lights", "--seconds", "12", "--speed", "2x", "--bandwidth", b, "-o", "json"}
	}
	a, b := l.start(nil, args("300k")...), l.start(nil, args("20M")...)
	top := func(c *command) (best, mean float64) {
		r := c.wait()
		if r.code != 0 {
			l.t.Fatalf("it failed: %s", r.story())
		}
		var p playReport
		decode(l.t, r, &p)
		wantPlayed(l.t, p, 12)
		for _, x := range p.Rungs {
			best = max(best, float64(x.Height))
		}
		return best, p.MeanKbps
	}
	narrow, slow := top(a)
	wide, fast := top(b)
	if narrow >= wide || slow >= fast {
		l.t.Errorf("300k reaches %g lines (%.0f kbit/s on average), 20M %g lines (%.0f kbit/s): want a better rung on the wide link", narrow, slow, wide, fast)
	}
}

// wantIndex waits until a region's search answers from its index. The first
// search for misspelt words in a young JVM may take longer than its call may;
// the catalogue answers then, which knows no near matches.
func (l *lab) wantIndex(region string) {
	l.t.Helper()
	if !l.rt.containers() {
		return
	}
	await(l.t, time.Minute, "a search for misspelt words from the index of "+region, func() error {
		if r := l.flix("play", "-o", "json", "--region", region, "--title", "harbour lihgts"); !strings.Contains(r.stderr, "Harbor Lights") {
			return errNotYet
		}
		return nil
	})
}

// refusedPlays has each cause's own message and exit code.
func refusedPlays(l *lab) {
	harbor := []string{"--title", "harbor-lights"}
	basic := []string{"--email", "basic@flix.test", "--password", "flix-basic"}
	join := func(lists ...[]string) (out []string) {
		for _, x := range lists {
			out = append(out, x...)
		}
		return out
	}
	l.wantIndex("us-east")
	seen := map[int]string{}
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"wrong title", []string{"--title", "harbour lihgts"}, 21, []string{"harbour lihgts", "Harbor Lights"}},
		{"country", []string{"--title", "clockwork-tide", "--country", "US"}, 22, []string{"not licensed in US", "GB"}},
		{"device", join(harbor, basic, []string{"--device", "tv"}), 23, []string{"Basic", "phone", "tv"}},
		{"resolution", join(harbor, basic, []string{"--device", "phone", "--height", "720"}), 24, []string{"Basic", "360", "720"}},
		{"ISP", join(harbor, []string{"--isp", "nope"}), 26, []string{"nope", "us-east-isp-1"}},
		{"not live", []string{"--title", "night-ferry"}, 27, []string{"Night Ferry", "not live"}},
		{"region", join(harbor, []string{"--region", "mars"}), 3, []string{"mars", "us-east"}},
		{"password", join(harbor, []string{"--email", "basic@flix.test", "--password", "wrong"}), 4, []string{"password"}},
		{"speed", join(harbor, []string{"--speed", "fast"}), 2, []string{"fast"}},
	} {
		l.t.Run(c.name, func(t *testing.T) {
			wantRefusal(t, l.on(t).flix(append([]string{"play", "-o", "json"}, c.args...)...), c.code, c.says...)
		})
		if other, ok := seen[c.code]; ok {
			l.t.Errorf("%s and %s end with the same exit code %d", c.name, other, c.code)
		}
		seen[c.code] = c.name
	}
	// The same play with what the plan allows is not refused.
	p := l.play(join(harbor, basic, []string{"--device", "phone", "--seconds", "4", "--speed", "100x"})...)
	for _, r := range p.Rungs {
		if r.Height > 360 {
			l.t.Errorf("the plan allows 360 lines, %d were played", r.Height)
		}
	}
}
