package containers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/services"
)

// VolumeVerb is the hidden verb of the command line that packs and unpacks a
// volume inside a container: "volume pack DIR" writes an archive to its standard
// output, "volume unpack DIR" reads one from its standard input. The engine's
// own copies lose the extended attributes that the S3 store lives by.
const VolumeVerb = "volume"

// Volume of the lab's.
type Volume struct {
	// Key tells it apart in the lab, and stays the same when the lab's folder, on
	// which the volume's name depends, does not.
	Key string
	// Host and Role are those of its container.
	Host, Role string
}

// Volumes lists the lab's.
func (r *Runtime) Volumes(ctx context.Context) ([]Volume, error) {
	vs, err := r.docker.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("label", labelDir+"="+r.c.Dir)})
	if err != nil {
		return nil, fmt.Errorf("volumes of the lab: %w", r.broken(err))
	}
	var out []Volume
	for _, v := range vs.Items {
		key, ok := strings.CutPrefix(v.Name, r.prefix+"-")
		key, data := strings.CutSuffix(key, volumeName(""))
		if ok && data {
			out = append(out, Volume{key, v.Labels[labelHost], v.Labels[labelRole]})
		}
	}
	return out, nil
}

// EnsureImage makes the image of flix's own containers, unless it is there: it
// packs and unpacks volumes.
func (r *Runtime) EnsureImage(ctx context.Context) error {
	if err := r.settleImages(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	own := r.image
	r.mu.Unlock()
	return r.ensure(ctx, own)
}

// ownImage is the tag of the image of services.
func (r *Runtime) ownImage() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.image == nil {
		return ""
	}
	return r.image.tag
}

func (r *Runtime) volume(v Volume) string { return volumeName(r.containerName(v.Key)) }

// PackVolume writes a volume as an archive. Nothing may run that writes to it.
func (r *Runtime) PackVolume(ctx context.Context, v Volume, w io.Writer) error {
	return r.inVolume(ctx, v, true, []string{"pack"}, nil, w)
}

// UnpackVolume makes a volume of an archive; args are those of "volume unpack"
// after the directory. There must be no volume of that key.
func (r *Runtime) UnpackVolume(ctx context.Context, v Volume, args []string, in io.Reader) error {
	if err := r.c.Journal.Put(journal.Volume, r.volume(v), struct{}{}); err != nil {
		return err
	}
	return r.inVolume(ctx, v, false, append([]string{"unpack"}, args...), in, io.Discard)
}

// volumeDir is where the container that packs a volume has it mounted.
const volumeDir = "/volume"

// inVolume runs a volume verb in a container of its own that has the volume and
// nothing else: no network, no other mount.
func (r *Runtime) inVolume(ctx context.Context, v Volume, readOnly bool, args []string, in io.Reader, out io.Writer) (err error) {
	name := r.containerName("volume-" + v.Key)
	if err := r.c.Journal.Put(journal.Container, name, struct{}{}); err != nil {
		return err
	}
	// The volume must not look like a container's until it is whole.
	labels := r.labels(v.Host, VolumeVerb)
	labels[labelSpecs], labels[labelID] = "[]", "volume-"+v.Key
	stdin := in != nil
	made, err := r.docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: name,
		Config: &container.Config{
			Image: r.ownImage(), Entrypoint: []string{"/" + binaryPath}, Cmd: append([]string{VolumeVerb, args[0], volumeDir}, args[1:]...), Labels: labels,
			OpenStdin: stdin, StdinOnce: stdin, AttachStdin: stdin, AttachStdout: true, AttachStderr: true,
		},
		HostConfig: &container.HostConfig{
			NetworkMode: "none",
			LogConfig:   container.LogConfig{Type: "none"}, // what it writes is the archive
			Mounts: []mount.Mount{{
				Type: mount.TypeVolume, Source: r.volume(v), Target: volumeDir, ReadOnly: readOnly,
				VolumeOptions: &mount.VolumeOptions{Labels: r.labels(v.Host, v.Role)},
			}},
		},
	})
	if err != nil {
		return fmt.Errorf("volume of %s: %w", v.Key, r.broken(err))
	}
	defer func() {
		rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
		defer cancel()
		err = errors.Join(err, r.removeContainer(rest, made.ID), r.c.Journal.Delete(journal.Container, name))
	}()
	return r.runAttached(ctx, v, made.ID, in, out)
}

// runAttached starts a container and copies its streams until it has ended.
func (r *Runtime) runAttached(ctx context.Context, v Volume, id string, in io.Reader, out io.Writer) error {
	at, err := r.docker.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: in != nil, Stdout: true, Stderr: true})
	if err != nil {
		return fmt.Errorf("volume of %s: %w", v.Key, r.broken(err))
	}
	defer at.Close()
	stop := context.AfterFunc(ctx, func() { _ = at.Conn.Close() })
	defer stop()
	if _, err := r.docker.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("volume of %s: %w", v.Key, r.broken(err))
	}
	sent := make(chan error, 1)
	go func() {
		var err error
		if in != nil {
			_, err = io.Copy(at.Conn, in)
			err = errors.Join(err, at.CloseWrite())
		}
		sent <- err
	}()
	var said bytes.Buffer
	_, err = stdcopy.StdCopy(out, &said, at.Reader)
	at.Close() // a command that has failed reads no more
	serr := <-sent
	if ctx.Err() != nil {
		return ctx.Err()
	}
	code, werr := r.exitCode(ctx, id)
	switch {
	case werr != nil:
		return fmt.Errorf("volume of %s: %w", v.Key, r.broken(werr))
	case code != 0:
		return services.Errorf(services.Unavailable, "volume of %s: %s", v.Key, strings.TrimSpace(said.String())).WithRemedy("look whether the disk is full (docker system df), then run the command again")
	}
	if err = errors.Join(err, serr); err != nil {
		return fmt.Errorf("volume of %s: %w", v.Key, err)
	}
	return nil
}

// exitCode waits for the end of a container whose streams have ended.
func (r *Runtime) exitCode(ctx context.Context, id string) (int, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		in, err := r.docker.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		if err != nil {
			return 0, err
		}
		if st := in.Container.State; st != nil && st.Status == container.StateExited {
			return st.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(wait):
		}
	}
}
