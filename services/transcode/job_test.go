package transcode

import (
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/transcode/transcodepb"
)

func TestRequestsThatAreWrong(t *testing.T) {
	if _, err := newJob(request(), "us-east", time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(r *transcodepb.SubmitRequest){
		"no job id":            func(r *transcodepb.SubmitRequest) { r.JobId = "" },
		"job id is a path":     func(r *transcodepb.SubmitRequest) { r.JobId, r.OriginalKey = "../x", "../x/clip.mkv" },
		"title id is a path":   func(r *transcodepb.SubmitRequest) { r.TitleId = "a/b" },
		"capitals":             func(r *transcodepb.SubmitRequest) { r.TitleId = "My" },
		"no name":              func(r *transcodepb.SubmitRequest) { r.Name = " " },
		"original of another":  func(r *transcodepb.SubmitRequest) { r.OriginalKey = "other/clip.mkv" },
		"original is a folder": func(r *transcodepb.SubmitRequest) { r.OriginalKey = "my-clip/" },
		"original climbs out":  func(r *transcodepb.SubmitRequest) { r.OriginalKey = "my-clip/.." },
		"a date before 1970":   func(r *transcodepb.SubmitRequest) { r.AvailableUnixMs = -1 },
		"a million sites":      func(r *transcodepb.SubmitRequest) { r.MinSites = 1000000 },
		"country in words":     func(r *transcodepb.SubmitRequest) { r.Countries = []string{"Norway"} },
	} {
		r := request()
		spoil(r)
		if _, err := newJob(r, "us-east", time.Now()); services.KindOf(err) != services.Invalid {
			t.Errorf("%s: error %v, want Invalid", name, err)
		}
	}
}

func TestWhoseJobItIs(t *testing.T) {
	now := time.Now()
	s := &Server{d: Deps{Region: "us-east", Instance: "me", Timing: timing()}}
	fresh, stale := now.Add(-50*time.Millisecond).UnixMilli(), now.Add(-time.Minute).UnixMilli()
	for _, c := range []struct {
		name string
		job  job
		want bool
	}{
		{"new", job{Region: "us-east", Step: stepQueued}, true},
		{"mine", job{Region: "us-east", Owner: "me", Beat: fresh, Step: stepEncode}, true},
		{"another's", job{Region: "us-east", Owner: "she", Beat: fresh, Step: stepEncode}, false},
		{"of one that fell silent", job{Region: "us-east", Owner: "she", Beat: stale, Step: stepEncode}, true},
		{"of another region", job{Region: "eu-west", Owner: "she", Beat: stale, Step: stepEncode}, false},
		{"done", job{Region: "us-east", Owner: "me", Step: stepDone}, false},
		{"failed", job{Region: "us-east", Owner: "me", Step: stepFailed}, false},
	} {
		if got := s.mine(&c.job, now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSubmittedAgain(t *testing.T) {
	now := time.Now()
	s := &Server{d: Deps{Region: "us-east", Instance: "me", Timing: timing()}}
	asked, err := newJob(request(), "us-east", now)
	if err != nil {
		t.Fatal(err)
	}
	at := func(st step, change func(j *job)) *job {
		j := asked.clone()
		j.Step, j.Beat = st, now.UnixMilli()
		if change != nil {
			change(j)
		}
		return j
	}
	for _, c := range []struct {
		name string
		was  *job
		want step // of the job that replaces it; "" leaves it
		kind services.Kind
	}{
		{"running", at(stepEncode, nil), "", ""},
		{"done", at(stepDone, nil), "", ""},
		{"failed", at(stepFailed, func(j *job) { j.Resume = stepPublish }), stepPublish, ""},
		{"failed with another original", at(stepFailed, func(j *job) { j.Resume, j.OriginalKey = stepEncode, "my-clip/old.mkv" }), stepQueued, ""},
		{"failed in another region", at(stepFailed, func(j *job) { j.Resume, j.Region = stepEncode, "eu-west" }), stepQueued, ""},
		{"running in another region", at(stepEncode, func(j *job) { j.Region = "eu-west" }), "", ""},
		{"silent in another region", at(stepEncode, func(j *job) { j.Region, j.Beat = "eu-west", 0 }), stepQueued, ""},
		{"another title", at(stepEncode, func(j *job) { j.Title = "other" }), "", services.Conflict},
	} {
		got, err := s.again(c.was, asked, now)
		if c.kind != "" {
			if services.KindOf(err) != c.kind {
				t.Errorf("%s: error %v, want %s", c.name, err, c.kind)
			}
			continue
		}
		if err != nil || (got == nil) != (c.want == "") || got != nil && (got.Step != c.want || got.Region != "us-east" || got.ended()) {
			t.Errorf("%s: %+v, %v, want step %q", c.name, got, err, c.want)
		}
	}
}

func FuzzDecodeJob(f *testing.F) {
	f.Add([]byte(`{"id":"a","title":"a","step":"encode","original":{"fps":25}}`))
	f.Add([]byte(`{"id":"../a","step":"queued"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := decodeJob(b)
		if err != nil {
			return
		}
		j.proto()
		b2, err := j.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeJob(b2); err != nil {
			t.Fatalf("%s: %v", b2, err)
		}
	})
}
