package containers

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime/containers/images"
)

// Version describes the engine of this machine. It fails with services.Conflict
// when its clock is not this machine's.
func Version(ctx context.Context, getenv func(string) string) (string, error) {
	engine, err := images.Open(ctx, getenv)
	if err != nil {
		return "", err
	}
	defer engine.Close()
	docker := engine.Client()
	v, err := docker.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return "", fmt.Errorf("docker: %w", err)
	}
	off, err := skew(ctx, docker)
	if err != nil {
		return "", fmt.Errorf("docker: %w", err)
	}
	if off.Abs() > maxSkew {
		return "", skewed(off)
	}
	return fmt.Sprintf("Docker %s, API %s, at %s", v.Version, v.APIVersion, docker.DaemonHost()), nil
}

// Labs lists the folders of the labs that have anything on the engine, with
// their names.
func Labs(ctx context.Context, getenv func(string) string) (map[string]string, error) {
	engine, err := images.Open(ctx, getenv)
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	docker := engine.Client()
	out := map[string]string{}
	note := func(labels map[string]string) {
		if dir := labels[labelDir]; dir != "" {
			out[dir] = labels[labelLab]
		}
	}
	ours := make(client.Filters).Add("label", labelDir)
	cs, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: ours})
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	for _, c := range cs.Items {
		note(c.Labels)
	}
	vs, err := docker.VolumeList(ctx, client.VolumeListOptions{Filters: ours})
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	for _, v := range vs.Items {
		note(v.Labels)
	}
	ns, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: ours})
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	for _, n := range ns.Items {
		note(n.Labels)
	}
	return out, nil
}

// Clear removes everything of a lab whose folder, and with it the journal, is
// gone; its labels tell what is its.
func Clear(ctx context.Context, getenv func(string) string, name, dir string) error {
	j, err := journal.OpenReadOnly(filepath.Join(dir, "gone"))
	if err != nil {
		return err
	}
	r, err := New(ctx, Config{Lab: name, Dir: dir, Getenv: getenv, Journal: j})
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Remove(ctx)
}
