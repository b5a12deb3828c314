package containers

import (
	"context"
	"fmt"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Nodetool runs Cassandra's nodetool in the container of a kv instance, for
// what CQL cannot ask of a node.
func (r *Runtime) Nodetool(ctx context.Context, i topology.Instance, args ...string) error {
	if r.hostNetwork() {
		return services.Errorf(services.Conflict, "%s: nodetool cannot tell nodes apart on the host's network", i.ID).WithRemedy("use --network bridge where regions come and go: flix lab down, then up again")
	}
	var out strings.Builder
	code, err := r.Exec(ctx, i, Exec{Cmd: append([]string{"nodetool"}, args...), Out: &out, Err: &out})
	if err != nil {
		return err
	}
	if code != 0 {
		return services.Errorf(services.Unavailable, "%s: nodetool %s ended with %d: %s", i.ID, strings.Join(args, " "), code, firstLine(out.String())).
			WithRemedy("look at the ring: flix lab exec %s -- nodetool status; then run the command again", i.ID)
	}
	return nil
}

// firstLine is where nodetool says what is wrong; a stack follows.
func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return fmt.Sprintf("%.300s", line)
}
