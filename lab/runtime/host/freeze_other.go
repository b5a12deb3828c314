//go:build !linux

package host

import (
	"syscall"

	"github.com/flix-lab/flix/services"
)

func freezeSocket(_ syscall.RawConn, on bool) error {
	if !on {
		return nil
	}
	return services.Errorf(services.Unavailable, "this system cannot stop a socket's packets").WithRemedy("kill the instance instead")
}
