package images

import (
	"context"

	"github.com/flix-lab/flix/services"
)

// The images that Build puts the others on: Debian, and Debian with Java.
const (
	baseReference = "flix/base:debian12"
	javaReference = "flix/base:java17"
)

// Row is what is known of one image of the set.
type Row struct {
	// Component is empty for a base that Build keeps.
	Component Component `json:"component,omitempty"`
	Reference string    `json:"reference"`
	Source    Source    `json:"source"`
	ID        string    `json:"id,omitempty"`
	// SizeBytes counts layers that images share once for each.
	SizeBytes int64 `json:"size_bytes,omitempty"`
	Present   bool  `json:"present"`
}

// List shows the image of every component, and the bases of those built here.
func List(ctx context.Context, store Store, s Set) ([]Row, error) {
	var out []Row
	for _, c := range Components() {
		choice, err := s.Find(ctx, store, c)
		if err != nil {
			return nil, err
		}
		out = append(out, row(choice))
	}
	for _, ref := range []string{baseReference, javaReference} {
		img, err := store.Inspect(ctx, ref)
		switch {
		case err == nil:
			out = append(out, row(Choice{Reference: ref, Source: Built, Image: &img}))
		case services.KindOf(err) != services.NotFound:
			return nil, err
		}
	}
	return out, nil
}

func row(c Choice) Row {
	r := Row{Component: c.Component, Reference: c.Reference, Source: c.Source}
	if c.Image != nil {
		r.ID, r.SizeBytes, r.Present = c.Image.ID, c.Image.Size, true
	}
	return r
}

// Pull gets the official image, or the override, of every component given, and
// calls each before it starts. It does so even where an image built here would
// do. It stops at the first failure.
func Pull(ctx context.Context, store Store, s Set, cs []Component, each func(Component, string)) error {
	for _, c := range cs {
		choice := Choice{Component: c, Reference: s.Official(c), Source: Official}
		if ref := s.Overrides[c]; ref != "" {
			choice.Reference, choice.Source = ref, Override
		}
		each(c, choice.Reference)
		if err := store.Pull(ctx, choice.Reference); err != nil {
			if ctx.Err() != nil {
				return err
			}
			return absent(choice, err)
		}
	}
	return nil
}
