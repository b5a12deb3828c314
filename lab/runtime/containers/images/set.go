package images

import (
	"context"
	"errors"
	goruntime "runtime"
	"strings"

	"github.com/flix-lab/flix/services"
)

// Set says which images stand for the components. The zero value is the pinned
// official ones.
type Set struct {
	// Prefix is a registry to take the official images from, e.g.
	// "registry.example:5000/mirror"; empty for the public ones.
	Prefix string
	// Overrides are references that stand for components whatever else there
	// is.
	Overrides map[Component]string
}

// Variables of the environment that make a Set: one prefix, and an override
// per component, e.g. FLIX_IMAGE_CASSANDRA.
const (
	prefixVariable   = "FLIX_IMAGE_PREFIX"
	overrideVariable = "FLIX_IMAGE_"
)

// FromEnv is the set the environment asks for.
func FromEnv(getenv func(string) string) Set {
	s := Set{Prefix: getenv(prefixVariable), Overrides: map[Component]string{}}
	for _, c := range Components() {
		if ref := getenv(overrideVariable + strings.ToUpper(string(c))); ref != "" {
			s.Overrides[c] = ref
		}
	}
	return s
}

// Source says where the image of a component comes from.
type Source string

// The sources.
const (
	Official Source = "official"
	Built    Source = "built"
	Override Source = "override"
)

// Image is one that is on the engine.
type Image struct {
	ID           string // sha256:…
	Size         int64  // bytes
	OS           string
	Architecture string
	Labels       map[string]string
	Env          map[string]string
}

// Store is what Resolve needs of an engine.
type Store interface {
	// Inspect returns the image of a reference; services.NotFound if it is not
	// here.
	Inspect(ctx context.Context, ref string) (Image, error)
	// Pull gets an image from its registry. Idempotent.
	Pull(ctx context.Context, ref string) error
}

var _ Store = (*Engine)(nil)

// Choice is the image that stands for a component.
type Choice struct {
	Component Component
	Reference string
	Source    Source
	// Image is what the engine has of it; nil when it is not there.
	Image *Image
}

// Official is the reference of a component's official image in this set.
func (s Set) Official(c Component) string {
	p, _ := pinOf(c)
	if s.Prefix == "" || p.official == "" {
		return p.official
	}
	return strings.TrimSuffix(s.Prefix, "/") + "/" + p.official
}

// Find chooses the image of a component without getting any: an override wins;
// else the official one if it is here; else the one built here; else the
// official one, not here.
func (s Set) Find(ctx context.Context, store Store, c Component) (Choice, error) {
	p, err := pinOf(c)
	if err != nil {
		return Choice{}, err
	}
	candidates := []Choice{{c, s.Official(c), Official, nil}, {c, p.built, Built, nil}}
	if ref := s.Overrides[c]; ref != "" {
		candidates = []Choice{{c, ref, Override, nil}}
	}
	for _, choice := range candidates {
		img, err := store.Inspect(ctx, choice.Reference)
		if err == nil {
			choice.Image = &img
			return choice, nil
		}
		if services.KindOf(err) != services.NotFound {
			return Choice{}, services.Wrap("image of "+string(c), err)
		}
	}
	return candidates[0], nil
}

// Resolve returns the reference of the image that stands for a component, and
// sees to it that it is on the engine: see Find; one that is not here is
// pulled. It fails with services.Unavailable, naming what to do, when that
// cannot be done, and with services.Conflict when the image is for another kind
// of machine or another major version than the lab is made for. Idempotent; a
// cancelled pull leaves nothing behind but whole layers.
func (s Set) Resolve(ctx context.Context, store Store, c Component) (string, error) {
	choice, err := s.Find(ctx, store, c)
	if err != nil {
		return "", err
	}
	if choice.Image != nil {
		return choice.Reference, fits(choice)
	}
	err = store.Pull(ctx, choice.Reference)
	switch {
	case err == nil:
		return choice.Reference, nil
	case ctx.Err() != nil:
		return "", services.Wrap("image of "+string(c), err)
	}
	return "", absent(choice, err)
}

// absent says what to do about an image that cannot be got.
func absent(c Choice, cause error) error {
	e := &services.Error{Kind: services.Unavailable, Reason: ReasonNoImage, Op: "image of " + string(c.Component), Msg: c.Reference + " is not here and cannot be pulled", Err: cause}
	var known *services.Error
	if errors.As(cause, &known) && known.Kind != services.NotFound {
		e.Kind = known.Kind
	}
	if c.Source == Override {
		return e.WithRemedy("mend %s%s, or unset it", overrideVariable, strings.ToUpper(string(c.Component)))
	}
	return e.WithRemedy("where a registry can be reached: flix images pull; where none can: flix images build --only %s, or flix images load FILE with what flix images save made elsewhere", c.Component)
}

// fits refuses an image that cannot work. Another minor version may: whoever
// names one has a reason; verify tells of it.
func fits(c Choice) error {
	p, err := pinOf(c.Component)
	if err != nil {
		return err
	}
	if !runsHere(c.Image) {
		return services.Errorf(services.Conflict, "image of %s: %s is made for %s/%s, and this machine is linux/%s", c.Component, c.Reference, c.Image.OS, c.Image.Architecture, goruntime.GOARCH).
			WithReason(ReasonWrongImage).WithRemedy("%s", remedyFor(c))
	}
	if got := versionOf(p, c); got != "" && major(got) != major(p.version) {
		return services.Errorf(services.Conflict, "image of %s: %s holds version %s, and the lab is made for %s", c.Component, c.Reference, got, p.version).
			WithReason(ReasonWrongImage).WithRemedy("%s", remedyFor(c))
	}
	return nil
}

// major is the first number of a version.
func major(version string) string {
	first, _, _ := strings.Cut(version, ".")
	return first
}

// runsHere says whether this machine can run an image; one that does not say
// what it is for may.
func runsHere(i *Image) bool {
	return (i.OS == "" || i.OS == "linux") && (i.Architecture == "" || i.Architecture == goruntime.GOARCH)
}

// ReasonWrongImage marks the error of an image that a lab cannot use.
const ReasonWrongImage = "wrong_image"

// ReasonNoImage marks the error of an image that is not here.
const ReasonNoImage = "no_image"
