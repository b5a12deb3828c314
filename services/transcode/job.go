package transcode

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/transcode/transcodepb"
)

// step is what a job does next. The order is that of the constants.
type step string

const (
	stepQueued  step = "queued"
	stepInspect step = "inspect"
	stepEncode  step = "encode"
	stepPackage step = "package"
	stepVerify  step = "verify"
	stepUpload  step = "upload"
	stepPublish step = "publish"
	stepDone    step = "done"
	stepFailed  step = "failed"
)

// steps names what follows each step, and the share of the whole job that is
// done when it begins, in percent.
var steps = map[step]struct {
	next step
	at   float64
}{
	stepQueued:  {stepInspect, 0},
	stepInspect: {stepEncode, 0},
	stepEncode:  {stepPackage, 2},
	stepPackage: {stepVerify, 85},
	stepVerify:  {stepUpload, 87},
	stepUpload:  {stepPublish, 95},
	stepPublish: {stepDone, 99},
	stepDone:    {stepDone, 100},
	stepFailed:  {stepFailed, 0},
}

// job is everything that is stored of a job. A value in the store is never
// changed by more than one instance at a time: every write names the value
// before it.
type job struct {
	ID          string   `json:"id"`
	Title       string   `json:"title"`
	Name        string   `json:"name"`
	Countries   []string `json:"countries,omitempty"`
	Synopsis    string   `json:"synopsis,omitempty"`
	OriginalKey string   `json:"original_key"`
	// Nobody may play the title before Available (unix ms; 0: at once), nor before
	// MinSites sites hold all of it.
	Available int64  `json:"available,omitempty"`
	MinSites  uint32 `json:"min_sites,omitempty"`

	// Region whose instances work on it; Owner is the one that does, and Beat
	// when it last said so (unix ms).
	Region string `json:"region"`
	Owner  string `json:"owner,omitempty"`
	Beat   int64  `json:"beat,omitempty"`

	// Step to do next, or the end. Resume is where a failed job begins again.
	Step    step    `json:"step"`
	Resume  step    `json:"resume,omitempty"`
	Percent float64 `json:"percent"`
	Error   string  `json:"error,omitempty"`
	Started int64   `json:"started"` // submission, unix ms
	Ended   int64   `json:"ended,omitempty"`
	Took    []took  `json:"took,omitempty"`

	// What the steps found.
	Original *media.Original `json:"original,omitempty"`
	Version  uint64          `json:"version,omitempty"`
	Asset    json.RawMessage `json:"asset,omitempty"` // protobuf's JSON form
}

// took is how long a finished step took.
type took struct {
	Step step   `json:"step"`
	MS   uint64 `json:"ms"`
}

func (j *job) ended() bool { return j.Step == stepDone || j.Step == stepFailed }

// clone copies the job so that the copy may be changed.
func (j *job) clone() *job {
	c := *j
	c.Took = append([]took(nil), j.Took...)
	return &c
}

func (j *job) encode() ([]byte, error) { return json.Marshal(j) }

func decodeJob(b []byte) (*job, error) {
	var j job
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, services.Errorf(services.Internal, "transcode: a stored job cannot be read: %v", err)
	}
	if _, ok := steps[j.Step]; !ok || !validID.MatchString(j.ID) {
		return nil, services.Errorf(services.Internal, "transcode: a stored job %q is at the unknown step %q", j.ID, j.Step)
	}
	return &j, nil
}

// proto is the job as the API shows it. Uploading is part of publishing there.
func (j *job) proto() *transcodepb.Job {
	state := j.Step
	if state == stepUpload {
		state = stepPublish
	}
	p := &transcodepb.Job{
		JobId: j.ID, TitleId: j.Title, Name: j.Name, State: string(state), Percent: j.Percent, Error: j.Error,
		StartedUnixMs: j.Started, EndedUnixMs: j.Ended,
	}
	for _, t := range j.Took {
		p.Steps = append(p.Steps, &transcodepb.Step{Name: string(t.Step), Ms: t.MS})
	}
	return p
}

var (
	validID      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	validCountry = regexp.MustCompile(`^[A-Z]{2}$`)
)

// Bounds of a request, in bytes.
const (
	maxName     = 200
	maxSynopsis = 4000
	maxKey      = 512
)

// maxMinSites is more sites than a lab can have.
const maxMinSites = 1 << 16

// newJob checks a request and makes the job that stands for it.
func newJob(r *transcodepb.SubmitRequest, region string, now time.Time) (*job, error) {
	bad := func(format string, args ...any) (*job, error) {
		return nil, services.Errorf(services.Invalid, "transcode: "+format, args...)
	}
	switch {
	case !validID.MatchString(r.GetJobId()):
		return bad("job_id %q is not an id: use lower-case letters, digits and dashes", r.GetJobId())
	case !validID.MatchString(r.GetTitleId()):
		return bad("title_id %q is not an id: use lower-case letters, digits and dashes", r.GetTitleId())
	case strings.TrimSpace(r.GetName()) == "" || len(r.GetName()) > maxName:
		return bad("a title's name has 1 to %d bytes, this one %d", maxName, len(r.GetName()))
	case len(r.GetSynopsis()) > maxSynopsis:
		return bad("a synopsis has at most %d bytes, this one %d", maxSynopsis, len(r.GetSynopsis()))
	}
	dir, file := path.Split(r.GetOriginalKey())
	if len(r.GetOriginalKey()) > maxKey || dir != r.GetJobId()+"/" || file == "" || file == "." || file == ".." {
		return bad("original_key %q is not %s/<file name>", r.GetOriginalKey(), r.GetJobId())
	}
	if r.GetAvailableUnixMs() < 0 || r.GetMinSites() > maxMinSites {
		return bad("available_unix_ms %d and min_sites %d: want no negative time and at most %d sites", r.GetAvailableUnixMs(), r.GetMinSites(), maxMinSites)
	}
	for _, c := range r.GetCountries() {
		if !validCountry.MatchString(c) {
			return bad("%q is not a country code: use ISO 3166-1 alpha-2, e.g. US", c)
		}
	}
	return &job{
		ID: r.GetJobId(), Title: r.GetTitleId(), Name: r.GetName(), Countries: r.GetCountries(), Synopsis: r.GetSynopsis(),
		OriginalKey: r.GetOriginalKey(), Available: r.GetAvailableUnixMs(), MinSites: r.GetMinSites(), Region: region, Step: stepQueued, Started: now.UnixMilli(),
	}, nil
}

// same says whether a request asks for what the job does. When the title may be
// played is no part of that: "in an hour" is another time with every request, and
// the first one counts.
func (j *job) same(o *job) bool {
	return j.Title == o.Title && j.Name == o.Name && j.OriginalKey == o.OriginalKey && fmt.Sprint(j.Countries) == fmt.Sprint(o.Countries) && j.Synopsis == o.Synopsis
}
