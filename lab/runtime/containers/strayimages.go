package containers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/lab/runtime/containers/images"
)

// StrayImage is an image that flix made and nothing uses any more.
type StrayImage struct {
	// ID is the engine's; Tag is empty for one that has none.
	ID, Tag string
}

// strayAge is how old an image must be before it counts as left behind: a build
// or an up that is under way needs younger ones.
const strayAge = 15 * time.Minute

// StrayImages lists the images of flix's own that were left behind: untagged
// ones, which a build or a removal that was killed leaves, and those of a lab's
// containers that no container has and no lab keeps. keep says whether a lab
// still counts on a tag.
func StrayImages(ctx context.Context, getenv func(string) string, keep func(tag string) bool) ([]StrayImage, error) {
	engine, err := images.Open(ctx, getenv)
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	return strayImages(ctx, engine.Client(), keep)
}

func strayImages(ctx context.Context, docker *client.Client, keep func(tag string) bool) ([]StrayImage, error) {
	cs, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	used := map[string]bool{}
	for _, c := range cs.Items {
		used[c.ImageID] = true
	}
	var out []StrayImage
	before := time.Now().Add(-strayAge)
	stray := func(i image.Summary) bool { return !used[i.ID] && time.Unix(i.Created, 0).Before(before) }
	for _, label := range append(images.Labels(), labelImage) {
		list, err := docker.ImageList(ctx, client.ImageListOptions{Filters: make(client.Filters).Add("dangling", "true").Add("label", label)})
		if err != nil {
			return nil, fmt.Errorf("docker: %w", err)
		}
		for _, i := range list.Items {
			if stray(i) && !slices.Contains(out, StrayImage{ID: i.ID}) {
				out = append(out, StrayImage{ID: i.ID})
			}
		}
	}
	list, err := docker.ImageList(ctx, client.ImageListOptions{Filters: make(client.Filters).Add("reference", imageName)})
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	for _, i := range list.Items {
		for _, tag := range i.RepoTags {
			if strings.HasPrefix(tag, imageName+":") && stray(i) && !keep(tag) {
				out = append(out, StrayImage{i.ID, tag})
			}
		}
	}
	return out, nil
}

// RemoveImages removes images that were left behind. One that somebody uses by
// now stays.
func RemoveImages(ctx context.Context, getenv func(string) string, strays []StrayImage) error {
	engine, err := images.Open(ctx, getenv)
	if err != nil {
		return err
	}
	defer engine.Close()
	for _, s := range strays {
		ref := s.Tag
		if ref == "" {
			ref = s.ID
		}
		_, err := engine.Client().ImageRemove(ctx, ref, client.ImageRemoveOptions{PruneChildren: true})
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			return fmt.Errorf("image %s: %w", ref, err)
		}
	}
	return nil
}
