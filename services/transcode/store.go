package transcode

import (
	"bytes"
	"context"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

// partition holds every job; see kv.Jobs.
const partition = "jobs"

// record is a job with the bytes it is stored as.
type record struct {
	*job
	stored []byte
}

// load returns one job, or services.NotFound.
func (s *Server) load(ctx context.Context, id string) (record, error) {
	it, err := s.commands.get.Do(ctx, func(ctx context.Context) (kv.Item, error) { return s.d.KV.Get(ctx, kv.Jobs, partition, id) })
	if err != nil {
		return record{}, err
	}
	j, err := decodeJob(it.Value)
	return record{j, it.Value}, err
}

// list returns every job of every region.
func (s *Server) list(ctx context.Context) ([]record, error) {
	var (
		out  []record
		page string
	)
	for {
		p, err := s.commands.list.Do(ctx, func(ctx context.Context) (p jobPage, err error) {
			p.items, p.next, err = s.d.KV.Query(ctx, kv.Jobs, partition, kv.Range{Page: page})
			return p, err
		})
		if err != nil {
			return nil, err
		}
		for _, it := range p.items {
			j, err := decodeJob(it.Value)
			if err != nil {
				s.d.Tel.Log.Error("a stored job is skipped", "job", it.Sort, "error", err)
				continue
			}
			out = append(out, record{j, it.Value})
		}
		if p.next == "" {
			return out, nil
		}
		page = p.next
	}
}

// replace stores a job in place of what was read, or fails with
// services.Conflict when another instance changed it since.
//
// The namespace asks for a second region's acknowledgement. When only that is
// missing the job is stored here all the same, which is enough to go on: if
// this region is lost before the others hear of it, the job is submitted anew.
func (s *Server) replace(ctx context.Context, was record, j *job) (record, error) {
	b, err := j.encode()
	if err != nil {
		return record{}, services.Errorf(services.Internal, "transcode: %v", err)
	}
	cond := kv.Condition{Sort: j.ID, Absent: was.stored == nil, Equals: was.stored}
	_, err = s.commands.put.Do(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.d.KV.PutIf(ctx, kv.Jobs, partition, cond, kv.Item{Sort: j.ID, Value: b})
	})
	if err == nil {
		return record{j, b}, nil
	}
	now, lerr := s.load(ctx, j.ID)
	if lerr == nil && bytes.Equal(now.stored, b) {
		return record{j, b}, nil
	}
	return record{}, err
}

// mine says whether this instance may work on a job: one of its region that
// it owns already, or that nobody owns, or whose owner has been silent.
func (s *Server) mine(j *job, now time.Time) bool {
	return j.Region == s.d.Region && !j.ended() &&
		(j.Owner == "" || j.Owner == s.d.Instance || s.silent(j, now))
}

func (s *Server) silent(j *job, now time.Time) bool {
	return now.Sub(time.UnixMilli(j.Beat)) > s.d.Timing.LeaseDuration.D()
}

// conflict says that another instance has the job now.
func conflict(err error) bool { return services.KindOf(err) == services.Conflict }
