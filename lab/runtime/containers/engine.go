package containers

import (
	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/services"
)

// broken names the remedy when the engine itself is gone.
func (r *Runtime) broken(err error) error {
	if client.IsErrConnectionFailed(err) {
		return &services.Error{Op: "docker", Kind: services.Unavailable, Msg: "the engine does not answer", Err: err,
			Remedy: "start it again and run the command again: the lab goes on from what is there"}
	}
	return err
}
