package containers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/lab/runtime"
)

// Difference is how something on the engine is not as the lab declares it.
type Difference struct {
	// Kind is missing, ended, unwanted or changed.
	Kind string
	// Of is container, network or volume; Name is the engine's name of it.
	Of, Name string
	// Text says what is different, Remedy makes it equal.
	Text, Remedy string
}

// Diff compares what the engine has of the lab with what would be made now for
// the specs; the world must have been set. Instances that are missing or have
// ended are List's to tell. With halted nothing is expected to run.
func (r *Runtime) Diff(ctx context.Context, specs []runtime.Spec, halted bool) ([]Difference, error) {
	binary, err := r.program()
	if err != nil {
		return nil, err
	}
	if err := r.nameImages(ctx, binary); err != nil {
		return nil, err
	}
	stores, agents, rest, err := r.declare(ctx, specs)
	if err != nil {
		return nil, err
	}
	cs, err := r.containers(ctx)
	if err != nil {
		return nil, err
	}
	have := map[string]found{}
	for _, c := range cs {
		have[c.name] = c
	}
	var out []Difference
	declared := slices.Concat(stores, agents, rest)
	for _, d := range declared {
		ds, err := r.diffContainer(ctx, d, have, halted)
		if err != nil {
			return nil, err
		}
		out = append(out, ds...)
	}
	for _, c := range cs {
		known := slices.ContainsFunc(declared, func(d declaration) bool { return r.containerName(d.ID) == c.name })
		if !known && (c.role == roleAgent || len(c.specs) == 0) {
			out = append(out, Difference{"unwanted", "container", c.name, "nothing declares it (" + c.status + ")", "remove it: docker rm -f " + c.name})
		}
	}
	var net []Difference
	if !r.hostNetwork() {
		if net, err = r.diffNetwork(ctx); err != nil {
			return nil, err
		}
	}
	volumes, err := r.diffVolumes(ctx, declared)
	return slices.Concat(out, net, volumes), err
}

// Learn is SetWorld for a runtime that only looks: it tells nobody.
func (r *Runtime) Learn(w runtime.World) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.world = w
}

func (r *Runtime) diffContainer(ctx context.Context, d declaration, have map[string]found, halted bool) ([]Difference, error) {
	name := r.containerName(d.ID)
	c, ok := have[name]
	agent := d.Role == roleAgent
	switch {
	case !ok && agent:
		return []Difference{{"missing", "container", name, "the agent of " + d.Region + " is not there", "make it: flix lab up"}}, nil
	case !ok:
		return nil, nil
	}
	var out []Difference
	if agent && !c.running && !halted {
		out = append(out, Difference{"ended", "container", name, "the agent of " + d.Region + " has ended: " + c.status, "start it: flix lab up"})
	}
	sum, err := d.sum()
	if err != nil {
		return nil, err
	}
	if sum != c.sum {
		why, err := r.changes(ctx, d, c)
		if err != nil || why == "" {
			return out, err
		}
		return append(out, Difference{"changed", "container", name, why, "make it anew, its data stay: docker rm -f " + name + ", then flix lab up"}), nil
	}
	img, err := r.docker.ImageInspect(ctx, d.Image)
	switch {
	case errdefs.IsNotFound(err):
		out = append(out, Difference{"changed", "container", name, "its image " + d.Image + " is not on the engine any more", "get it again: flix images pull, or flix images build"})
	case err != nil:
		return nil, fmt.Errorf("image %s: %w", d.Image, r.broken(err))
	case img.ID != c.imageID:
		out = append(out, Difference{"changed", "container", name, "it was made of an earlier " + d.Image, "make it anew, its data stay: docker rm -f " + name + ", then flix lab up"})
	}
	return out, nil
}

// changes says in what a container is not what is declared; "" if it has just
// gone.
func (r *Runtime) changes(ctx context.Context, d declaration, c found) (string, error) {
	in, err := r.docker.ContainerInspect(ctx, c.container, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.id, r.broken(err))
	}
	var what []string
	add := func(name string, differs bool) {
		if differs {
			what = append(what, name)
		}
	}
	config, hostConfig := in.Container.Config, in.Container.HostConfig
	if config == nil || hostConfig == nil {
		return "", errors.New(c.name + ": the engine does not show how it was made")
	}
	if config.Image != d.Image {
		what = append(what, fmt.Sprintf("its image is %s and would be %s", config.Image, d.Image))
	}
	add("its command", d.Cmd != nil && !slices.Equal(config.Cmd, d.Cmd))
	add("its memory limit", hostConfig.Memory != d.Memory)
	add("its address", c.address != d.Address)
	env := map[string]string{}
	for _, kv := range config.Env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	for _, k := range slices.Sorted(maps.Keys(d.Env)) {
		add("its "+k, env[k] != d.Env[k])
	}
	add("its instances", !d.Serves && !slices.EqualFunc(c.specs, d.Specs, func(a, b runtime.Spec) bool { return a.ID == b.ID && maps.Equal(a.PortNumbers, b.PortNumbers) }))
	if len(what) == 0 {
		what = []string{"its declaration"}
	}
	text := strings.Join(what, ", ")
	if config.Image != d.Image && len(what) == 1 {
		return text, nil
	}
	return text + ": not what would be made now", nil
}

func (r *Runtime) diffNetwork(ctx context.Context) ([]Difference, error) {
	ns, err := r.docker.NetworkList(ctx, client.NetworkListOptions{Filters: make(client.Filters).Add("label", labelDir+"="+r.c.Dir)})
	if err != nil {
		return nil, fmt.Errorf("networks of the lab: %w", r.broken(err))
	}
	var out []Difference
	there := false
	for _, n := range ns.Items {
		if n.Name != r.networkName() {
			out = append(out, Difference{"unwanted", "network", n.Name, "nothing of the lab uses it", "remove it: docker network rm " + n.Name})
			continue
		}
		there = true
		if len(n.IPAM.Config) != 1 || n.IPAM.Config[0].Subnet != r.places.subnet {
			out = append(out, Difference{"changed", "network", n.Name, fmt.Sprintf("it is not %s alone", r.places.subnet), "take the lab down and up again"})
		}
	}
	if !there {
		out = append(out, Difference{"missing", "network", r.networkName(), "the lab's network is not there", "make it: flix lab up"})
	}
	return out, nil
}

func (r *Runtime) diffVolumes(ctx context.Context, declared []declaration) ([]Difference, error) {
	vs, err := r.docker.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("label", labelDir+"="+r.c.Dir)})
	if err != nil {
		return nil, fmt.Errorf("volumes of the lab: %w", r.broken(err))
	}
	have := map[string]bool{}
	for _, v := range vs.Items {
		have[v.Name] = true
	}
	var out []Difference
	for _, d := range declared {
		if d.Volume == "" {
			continue
		}
		name := volumeName(r.containerName(d.ID))
		if !have[name] {
			out = append(out, Difference{"missing", "volume", name, "the data of " + d.ID + " are not there", "make it: flix lab up; what was in it is gone"})
		}
		delete(have, name)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		out = append(out, Difference{"unwanted", "volume", name, "no container of the lab uses it", "remove it: docker volume rm " + name})
	}
	return out, nil
}

// volumeName is the name of a container's volume.
func volumeName(container string) string { return container + "-data" }
