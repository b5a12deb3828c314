package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/topology"
)

// unregistered asks a registry which of the named instances it does not show
// in a status.
func (l *Lab) unregistered(ctx context.Context, registry runtime.Spec, status string, names []string) ([]string, error) {
	var missing []string
	for _, n := range names {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+registry.Addr(topology.PortHTTP)+"/eureka/v2/instances/"+lookup.EncodeID(n), nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/json")
		resp, err := l.remote.http.Do(req)
		if err != nil {
			return names, &services.Error{Op: registry.ID, Kind: services.Unavailable, Err: err}
		}
		var body struct {
			Instance struct {
				Status string `json:"status"`
			} `json:"instance"`
		}
		err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK && err != nil {
			return names, fmt.Errorf("%s: %w", registry.ID, err)
		}
		if body.Instance.Status != status {
			missing = append(missing, n)
		}
	}
	return missing, nil
}

// leaving prepares the end of instances that are no longer wanted: a SQL
// primary hands over first, so that nothing committed is lost.
func (l *Lab) leaving(ctx context.Context, gone []runtime.Instance) error {
	for _, i := range gone {
		if i.Spec.Role != topology.RoleSQL {
			continue
		}
		node, err := l.sqlNodeAt(i.Spec)
		if err != nil {
			return err
		}
		if err := l.handOver(ctx, node); err != nil {
			return services.Wrap("SQL of "+i.Spec.Region, err)
		}
	}
	return nil
}

// handOver moves the primary to the first wanted region if the node holds it.
func (l *Lab) handOver(ctx context.Context, node sqldb.Node) error {
	holds, err := node.Primary(ctx)
	if err == nil && !holds { // a move that was cut short may have left it fenced
		holds, err = node.Fenced(ctx)
	}
	if err != nil || !holds {
		return err
	}
	position, err := node.Fence(ctx)
	if err != nil {
		return err
	}
	next, err := l.sqlNode(l.current().Topology.Regions[0].Name)
	if err != nil {
		return err
	}
	return next.Promote(ctx, position)
}
