package opensearch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/search"
)

const (
	// maxID is OpenSearch's bound of an id, in bytes.
	maxID = 512
	// maxDoc bounds one document, in bytes of JSON.
	maxDoc = 1 << 20
	// A batch has at most maxBatch actions and, but for a single one, at most
	// maxBatchBytes.
	maxBatch      = 1000
	maxBatchBytes = 4 << 20
)

// action is one line or two of a bulk request.
type action []byte

// record is a document as it is indexed.
type record struct {
	ID       services.TitleID `json:"id"`
	Name     string           `json:"name"`
	Synopsis string           `json:"synopsis"`
	Genres   []string         `json:"genres"`
}

// target names the document of an action.
type target struct {
	ID services.TitleID `json:"_id"`
}

// put is the action that adds or replaces a document.
func put(d search.Doc) (action, error) {
	if d.ID == "" || len(d.ID) > maxID {
		return nil, services.Errorf(services.Invalid, "a document needs an id of 1 to %d bytes, not %d", maxID, len(d.ID))
	}
	a, err := lines(map[string]target{"index": {d.ID}}, record{d.ID, d.Name, d.Synopsis, d.Genres})
	if err == nil && len(a) > maxDoc {
		return nil, services.Errorf(services.Invalid, "document %s has %d bytes: at most %d", d.ID, len(a), maxDoc)
	}
	return a, err
}

// remove is the action that deletes a document.
func remove(id services.TitleID) (action, error) {
	return lines(map[string]target{"delete": {id}})
}

// lines encodes values as one line of JSON each.
func lines(values ...any) (action, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, v := range values {
		if err := enc.Encode(v); err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
	}
	return b.Bytes(), nil
}

// bulk sends actions in batches. Where there is no index, puts make it, and
// deletes have nothing to do.
func (c *Client) bulk(ctx context.Context, actions []action, puts bool) error {
	for len(actions) > 0 {
		n, size := 0, 0
		for n < len(actions) && n < maxBatch && (n == 0 || size+len(actions[n]) <= maxBatchBytes) {
			size += len(actions[n])
			n++
		}
		err := c.batch(ctx, bytes.Join(toBytes(actions[:n]), nil))
		if missing(err) {
			if !puts {
				return nil
			}
			if err = c.create(ctx); err == nil {
				err = c.batch(ctx, bytes.Join(toBytes(actions[:n]), nil))
			}
		}
		if err != nil {
			return err
		}
		actions = actions[n:]
	}
	return nil
}

// outcome is what is read of the answer to a bulk request: per action its
// status and, if it failed, why. An action's key is its verb.
type outcome struct {
	Errors bool `json:"errors"`
	Items  []map[string]struct {
		ID     string `json:"_id"`
		Status int    `json:"status"`
		Error  *cause `json:"error"`
	} `json:"items"`
}

// batch sends one bulk request.
//
// It refreshes the index at once (refresh=true): titles are put one by one when
// they are published, and many at a time only when a lab is seeded, so a small
// segment per request costs nothing that merging does not mend. The other way
// to be found after the answer, refresh=wait_for, would hold every writer up to
// the next periodic refresh, a second by default.
func (c *Client) batch(ctx context.Context, body []byte) error {
	var out outcome
	err := c.do(ctx, request{
		method: http.MethodPost, op: "bulk", body: body, lines: true,
		path: "/" + alias + "/_bulk?refresh=true&require_alias=true&filter_path=errors,items.*._id,items.*.status,items.*.error.type,items.*.error.reason",
	}, &out)
	if err != nil {
		return err
	}
	return out.failure()
}

// failure is the first action that was refused. A delete that finds nothing is
// not.
func (o *outcome) failure() error {
	if !o.Errors {
		return nil
	}
	var first *services.Error
	failed := 0
	for _, item := range o.Items {
		for _, r := range item {
			if r.Error == nil {
				continue
			}
			if failed++; first == nil {
				first = refused("document "+r.ID, r.Status, *r.Error)
			}
		}
	}
	if first == nil {
		return services.Errorf(services.Internal, "the answer tells of errors and shows none")
	}
	if failed > 1 {
		first.Msg += fmt.Sprintf(" (and %d of %d documents more)", failed-1, len(o.Items))
	}
	return first
}

func toBytes(actions []action) [][]byte {
	out := make([][]byte, len(actions))
	for i, a := range actions {
		out[i] = a
	}
	return out
}
