package images

import (
	"context"
	goruntime "runtime"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

// Verdict is what Verify finds of one component's image.
type Verdict struct {
	Row
	// Want and Got are the pinned version and the one in the image; Got is
	// empty where the image does not tell.
	Want string `json:"want"`
	Got  string `json:"got,omitempty"`
	// StartMS is how long a container took to answer on its port, in
	// milliseconds; 0 where none was started.
	StartMS float64 `json:"start_ms,omitempty"`
	// Problem says what is wrong, Remedy what to do; empty where all is well.
	Problem string `json:"problem,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
}

// startTimeout is how long an image may take to answer.
const startTimeout = 3 * time.Minute

// Verify checks the image of every component given: that it is here, made for
// this machine, and of the pinned version; and, with start, that a container of
// it answers on its port, one component after another. The containers are
// removed. What is wrong with an image is told in its verdict; an error is what
// kept Verify from finding out.
func (e *Engine) Verify(ctx context.Context, s Set, cs []Component, start bool, each func(Component)) ([]Verdict, error) {
	var out []Verdict
	for _, c := range cs {
		choice, err := s.Find(ctx, e, c)
		if err != nil {
			return out, err
		}
		v := judge(choice)
		if start && v.Problem == "" {
			if each != nil {
				each(c)
			}
			begin := time.Now()
			if err := e.tryStart(ctx, choice); err == nil {
				v.StartMS = float64(time.Since(begin).Microseconds()) / 1000
			} else if ctx.Err() != nil {
				return out, services.Wrap("images verify", ctx.Err())
			} else {
				v.Problem, v.Remedy = "it does not start: "+err.Error(), remedyFor(choice)
			}
		}
		out = append(out, v)
	}
	return out, nil
}

// judge tells what an inspection shows.
func judge(c Choice) Verdict {
	p, _ := pinOf(c.Component) // Find has looked it up
	v := Verdict{Row: row(c), Want: p.version}
	if c.Image == nil {
		v.Problem, v.Remedy = "it is not here", remedyFor(c)
		return v
	}
	v.Got = versionOf(p, c)
	switch {
	case c.Image.OS != "linux" || c.Image.Architecture != goruntime.GOARCH:
		v.Problem = "it is made for " + c.Image.OS + "/" + c.Image.Architecture + ", and this machine is linux/" + goruntime.GOARCH
	case v.Got != "" && !matches(v.Got, p.version):
		v.Problem = "it holds version " + v.Got + ", and the lab is made for " + p.version
	case v.Got == "" && c.Source != Override:
		v.Problem = "it does not tell its version"
	}
	if v.Problem != "" {
		v.Remedy = remedyFor(c)
	}
	return v
}

// versionOf is the version an image tells of itself, or else its tag does.
func versionOf(p pin, c Choice) string {
	for _, m := range append(p.marks, versionLabel) {
		v := c.Image.Labels[m]
		if name, ok := strings.CutPrefix(m, "$"); ok {
			v = c.Image.Env[name]
		}
		// Debian's way of writing versions has an epoch before and a revision after.
		if _, after, ok := strings.Cut(v, ":"); ok {
			v = after
		}
		if v, _, _ = strings.Cut(v, "+"); v != "" {
			return strings.TrimPrefix(v, "v")
		}
	}
	name := c.Reference[strings.LastIndex(c.Reference, "/")+1:]
	_, tag, _ := strings.Cut(name, ":")
	tag = strings.TrimPrefix(tag, "v")
	if tag != "" && tag[0] >= '0' && tag[0] <= '9' {
		tag, _, _ = strings.Cut(tag, "@")
		tag, _, _ = strings.Cut(tag, "-")
		return tag
	}
	return ""
}

// matches says whether a version is the pinned one, or one of its patches.
func matches(got, want string) bool { return got == want || strings.HasPrefix(got, want+".") }

func remedyFor(c Choice) string {
	switch c.Source {
	case Override:
		return "mend " + overrideVariable + strings.ToUpper(string(c.Component)) + ", or unset it"
	case Built:
		return "make it anew: flix images build --force --only " + string(c.Component)
	}
	return "flix images pull " + string(c.Component) + ", or flix images build --only " + string(c.Component)
}
