package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/services"
)

// broken names the remedy when the engine itself is what is wrong: it is gone,
// it is not ours to use, or its disk is full. Other errors stay as they are.
func (r *Runtime) broken(err error) error {
	var known *services.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	text := err.Error()
	switch {
	case client.IsErrConnectionFailed(err) && (errors.Is(err, os.ErrPermission) || strings.Contains(text, "permission denied")):
		return &services.Error{Op: "docker", Kind: services.Denied, Msg: "the engine's socket is not this user's to use any more", Err: err,
			Remedy: "join the group that owns the socket, log in again and run the command again: sudo usermod -aG docker $USER"}
	case client.IsErrConnectionFailed(err):
		return &services.Error{Op: "docker", Kind: services.Unavailable, Msg: "the engine does not answer", Err: err,
			Remedy: "start it (sudo systemctl start docker), then run flix lab up: the lab goes on from what is there"}
	case full(text):
		return diskFull("docker", err)
	}
	return err
}

// full says whether an engine's words are about its disk.
func full(text string) bool {
	return strings.Contains(text, "no space left on device") || strings.Contains(text, "disk quota exceeded")
}

// diskFull is the error of an engine whose disk is.
func diskFull(op string, err error) error {
	return &services.Error{Op: op, Kind: services.Exhausted, Reason: "disk_full", Msg: "the disk of the Docker engine is full", Err: err,
		Remedy: "free some (docker system df shows what takes it; docker system prune frees what nothing uses), then run the command again: it goes on"}
}

// maxSkew is how far the engine's clock may be off this machine's. The lab's
// writes are ordered, and its tokens and leases expire, by the clocks of both.
const maxSkew = 2 * time.Second

// checkClock refuses an engine whose clock is not this machine's: one in a
// virtual machine falls behind when that sleeps.
func (r *Runtime) checkClock(ctx context.Context) error {
	off, err := skew(ctx, r.docker)
	if err != nil {
		return fmt.Errorf("docker: %w", r.broken(err))
	}
	if off.Abs() <= maxSkew {
		return nil
	}
	return skewed(off)
}

func skewed(off time.Duration) *services.Error {
	way := "ahead of"
	if off < 0 {
		way = "behind"
	}
	return services.Errorf(services.Conflict, "the clock of the Docker engine is %s %s this machine's: writes would be ordered wrongly and tokens refused", off.Abs().Round(100*time.Millisecond), way).
		WithReason("clock_skew").WithRemedy("set both right (chronyc makestep, or restart the virtual machine the engine is in), then run the command again")
}

// skew is how far the engine's clock is ahead of this machine's; what it cannot
// be, given how long the answer took, counts as nothing.
func skew(ctx context.Context, docker *client.Client) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	asked := time.Now()
	info, err := docker.Info(ctx, client.InfoOptions{})
	if err != nil {
		return 0, err
	}
	answered := time.Now()
	at, err := time.Parse(time.RFC3339Nano, info.Info.SystemTime)
	if err != nil {
		return 0, nil // it does not tell
	}
	switch {
	case at.Before(asked):
		return at.Sub(asked), nil
	case at.After(answered):
		return at.Sub(answered), nil
	}
	return 0, nil
}
