package play

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/token"
)

const (
	// maxIndexes and maxIndexBytes bound the indexes that are remembered. An
	// index of a title of some hours has a megabyte.
	maxIndexes, maxIndexBytes = 256, 64 << 20
	// maxIndex bounds one, in bytes.
	maxIndex = 32 << 20
	// fillToken is how long a request's token is good for.
	fillToken = time.Minute
)

// indexes reads titles' indexes where their other files are, too: at the
// appliances, which outlive a region. An index belongs to one version of a
// title and never changes, so that those read are kept. Safe for concurrent use.
type indexes struct {
	client *http.Client
	key    token.Key
	read   *resilience.Command[media.Index]

	mu    sync.Mutex
	known map[string]known // by title and version
	order []string         // of arrival
	bytes int
}

type known struct {
	index media.Index
	size  int
}

func newIndexes(d Deps, read *resilience.Command[media.Index]) *indexes {
	return &indexes{
		client: &http.Client{Transport: &http.Transport{DialContext: d.Dial, IdleConnTimeout: d.Timing.MaxConnectionAge.D(), MaxIdleConnsPerHost: 1}},
		key:    d.Key, read: read, known: map[string]known{},
	}
}

// get returns the index of the profiles' version, from the first of the
// appliances that has it.
func (x *indexes) get(ctx context.Context, title string, pr *playbackpb.ProfilesReply, from []*steeringpb.Candidate) (media.Index, error) {
	of := title + "/" + versionOf(pr)
	x.mu.Lock()
	k, ok := x.known[of]
	x.mu.Unlock()
	if ok {
		return k.index, nil
	}
	return x.read.Do(ctx, func(ctx context.Context) (media.Index, error) {
		var errs []error
		for _, c := range from {
			if c.GetFillUrl() == "" {
				continue
			}
			b, err := x.fetch(ctx, c.GetFillUrl(), title, pr)
			if err == nil {
				var index media.Index
				if index, err = media.ParseIndex(b); err == nil {
					x.keep(of, known{index, len(b)})
					return index, nil
				}
			}
			errs = append(errs, fmt.Errorf("%s: %w", c.GetAppliance(), err))
		}
		return media.Index{}, &services.Error{Op: "index of " + title, Kind: services.Unavailable, Msg: "no appliance gives it", Err: errors.Join(errs...), Remedy: "flix fill status shows which hold it"}
	})
}

// fetch reads the index's bytes from one appliance, and only the right ones.
func (x *indexes) fetch(ctx context.Context, base, title string, pr *playbackpb.ProfilesReply) ([]byte, error) {
	at := strings.TrimSuffix(base, "/") + "/fill/" + url.PathEscape(title) + "/" + versionOf(pr) + "/" + url.PathEscape(pr.GetIndexPath())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+x.key.Sign(token.Fill, token.Claims{Title: title}, time.Now(), fillToken))
	resp, err := x.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxIndex))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); !bytes.Equal(sum[:], pr.GetIndexSha256()) {
		return nil, errors.New("its bytes are not those that were published")
	}
	return b, nil
}

// keep remembers an index, and forgets the oldest for it.
func (x *indexes) keep(of string, k known) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.known[of]; ok || k.size > maxIndexBytes {
		return
	}
	x.known[of] = k
	x.order = append(x.order, of)
	for x.bytes += k.size; len(x.order) > maxIndexes || x.bytes > maxIndexBytes; {
		oldest := x.order[0]
		x.order = x.order[1:]
		x.bytes -= x.known[oldest].size
		delete(x.known, oldest)
	}
}
