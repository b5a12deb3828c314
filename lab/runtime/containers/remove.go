package containers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
)

// removeTime bounds the removal of one container.
const removeTime = 30 * time.Second

// gone says whether an error means that there is nothing to end.
func gone(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsConflict(err) || errdefs.IsNotModified(err)
}

// removeContainer ends a container at once and removes it with the volumes
// that have no name. One that the engine is removing already is waited for by
// the next request for its name.
func (r *Runtime) removeContainer(ctx context.Context, id string) error {
	_, err := r.docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !strings.Contains(err.Error(), "already in progress") {
		return fmt.Errorf("container %s: %w", id, r.broken(err))
	}
	return nil
}

// detach takes a container off the lab's network, one container at a time: an
// engine that ends many at once loses count of the network's endpoints, and then
// keeps the network (seen in 20.10: two that are taken off while a third looks
// share one counter, and what one of them takes from it is forgotten).
func (r *Runtime) detach(ctx context.Context, c found) error {
	if !c.attached {
		return nil
	}
	select {
	case r.detaching <- struct{}{}:
		defer func() { <-r.detaching }()
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := r.docker.NetworkDisconnect(ctx, r.networkName(), client.NetworkDisconnectOptions{Container: c.container, Force: true})
	if err != nil && !offNetwork(err) {
		return fmt.Errorf("container %s: off its network: %w", c.name, r.broken(err))
	}
	return nil
}

// offNetwork says whether an engine did not take a container off a network
// because there is nothing left to do: it is off it or gone, or on its way.
func offNetwork(err error) bool {
	return errdefs.IsNotFound(err) || strings.Contains(err.Error(), "is not connected to") || strings.Contains(err.Error(), "is marked for removal")
}

// removeAll ends and removes containers and, unless keep, their volumes.
func (r *Runtime) removeAll(ctx context.Context, f filter, keep bool) error {
	if err := r.removeContainers(ctx, f, keep); err != nil || keep {
		return err
	}
	return r.removeVolumes(ctx, f)
}

// removeContainers ends and removes containers, and returns when the engine
// shows none of them; keep leaves on record what they were made from.
func (r *Runtime) removeContainers(ctx context.Context, f filter, keep bool) error {
	cs, err := r.find(ctx, f)
	if err != nil {
		return err
	}
	defer r.changed()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, c := range cs {
		g.Go(func() error {
			if err := r.detach(gctx, c); err != nil {
				return err
			}
			if err := r.removeContainer(gctx, c.container); err != nil {
				return err
			}
			if !keep {
				if err := r.forgetSpecs(c.id); err != nil {
					return err
				}
			}
			return r.c.Journal.Delete(journal.Container, c.name)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return r.awaitGone(ctx, f)
}

// goneSoon is how often the engine is asked whether it is done.
const goneSoon = 50 * time.Millisecond

// awaitGone waits until the engine shows none of the containers any more: one
// that it was removing already is still there when it says so.
func (r *Runtime) awaitGone(ctx context.Context, f filter) error {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	for {
		left, err := r.find(ctx, f)
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return services.Errorf(services.Unavailable, "the engine does not finish the removal of %s and %d more", left[0].name, len(left)-1).WithRemedy("run the command again")
		case <-time.After(goneSoon):
		}
	}
}

func (r *Runtime) removeVolumes(ctx context.Context, f filter) error {
	fs := make(client.Filters).Add("label", labelDir+"="+r.c.Dir)
	if f.host != "" {
		fs.Add("label", labelHost+"="+f.host)
	}
	vs, err := r.docker.VolumeList(ctx, client.VolumeListOptions{Filters: fs})
	if err != nil {
		return fmt.Errorf("volumes of the lab: %w", r.broken(err))
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, v := range vs.Items {
		if f.name != "" && v.Name != f.name+"-data" {
			continue
		}
		g.Go(func() error {
			if _, err := r.docker.VolumeRemove(gctx, v.Name, client.VolumeRemoveOptions{}); err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("volume %s: %w", v.Name, r.broken(err))
			}
			return r.c.Journal.Delete(journal.Volume, v.Name)
		})
	}
	return g.Wait()
}

// Remove implements runtime.Runtime: containers, volumes, network, and the
// images that no other lab uses. Who makes containers meanwhile is stopped
// first: what came after a look at what there is would be left.
func (r *Runtime) Remove(ctx context.Context) error {
	r.mu.Lock()
	r.remove()
	r.mu.Unlock()
	select {
	case <-r.making:
		defer func() { r.making <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	r.removal, r.remove = context.WithCancel(context.Background())
	r.mu.Unlock()
	used, err := r.usedImages(ctx)
	if err != nil {
		return err
	}
	if err := r.removeContainers(ctx, filter{}, false); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx) // with the containers gone, nothing holds any of it
	g.Go(func() error { return r.removeVolumes(gctx, filter{}) })
	g.Go(func() error { return r.removeNetwork(gctx) })
	g.Go(func() error { return r.removeImages(gctx, used) })
	return g.Wait()
}

// usedImages are the images of flix's own that the lab has: those in its
// journal, and those that its containers run, should the journal be gone.
func (r *Runtime) usedImages(ctx context.Context) ([]string, error) {
	var out []string
	for _, e := range r.c.Journal.List(journal.Image) {
		out = append(out, e.ID)
	}
	cs, err := r.containers(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range cs {
		if strings.HasPrefix(c.image, imageName+":") && !slices.Contains(out, c.image) {
			out = append(out, c.image)
		}
	}
	return out, nil
}

// removeImages removes images with the untagged ones that they were built on:
// the engine would keep those, and show them as <none>.
func (r *Runtime) removeImages(ctx context.Context, tags []string) error {
	for _, tag := range tags {
		_, err := r.docker.ImageRemove(ctx, tag, client.ImageRemoveOptions{PruneChildren: true})
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // a conflict: another lab's containers use it
			return fmt.Errorf("image %s: %w", tag, r.broken(err))
		}
		if err := r.c.Journal.Delete(journal.Image, tag); err != nil {
			return err
		}
	}
	r.forgetImages()
	return nil
}

// EndHost implements runtime.Runtime.
func (r *Runtime) EndHost(ctx context.Context, name string, keep bool) error {
	cs, err := r.find(ctx, filter{host: name})
	if err != nil {
		return err
	}
	defer r.changed()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, c := range cs {
		if c.running {
			g.Go(func() error { return r.stopContainer(gctx, c, stopTime, false) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := r.removeAll(ctx, filter{host: name}, keep); err != nil {
		return err
	}
	if !keep {
		r.mu.Lock()
		defer r.mu.Unlock()
		if name != runtime.OpenConnect {
			if err := r.places.release(agentID(name)); err != nil {
				return err
			}
			return r.places.releaseRegion(name)
		}
		return nil
	}
	left, err := r.containers(ctx)
	if err != nil || len(left) > 0 {
		return err
	}
	return r.removeNetwork(ctx)
}

// stopTime bounds the orderly end of a container; a store needs a moment to
// write what it has in memory.
const stopTime = 10 * time.Second
