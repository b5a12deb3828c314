package transcode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/objects"
	"github.com/flix-lab/flix/services/search"
	"github.com/flix-lab/flix/services/sqldb"
)

// Limits of an original.
const (
	maxOriginalBytes = 8 << 30
	maxDuration      = 4 * time.Hour
	minDuration      = 100 * time.Millisecond
)

const (
	audioKbps = 64
	// originalName is the original's name in scratch: the uploader's own never
	// becomes a path.
	originalName = "original"
	// Processor time that an encode may take: a fixed part, and a multiple of
	// the title's duration that no machine in use should need.
	cpuBase, cpuPerSecond = 10 * time.Minute, 120
)

// do does one step and returns what it found out, to be stored with the job.
func (s *Server) do(ctx context.Context, h *held, st step) (func(*job), error) {
	nothing := func(*job) {}
	j := h.job()
	tools, err := s.tools()
	if err != nil {
		return nothing, err
	}
	dir := filepath.Join(s.d.Dir, j.ID)
	switch st {
	case stepInspect:
		o, err := s.inspect(ctx, tools, j, dir)
		return func(j *job) { j.Original = &o }, err
	case stepEncode:
		return nothing, s.encode(ctx, tools, h, dir)
	case stepPackage:
		version := uint64(time.Now().UnixMilli())
		if err := s.encoded(ctx, tools, h, dir); err != nil {
			return nothing, err
		}
		ssim, err := s.quality(ctx, tools, j, dir)
		if err != nil {
			return nothing, err
		}
		found := func(j *job) { j.Version, j.SSIM = version, ssim }
		measured := j.clone()
		found(measured)
		_, err = inRoot(dir, func(root *os.Root) (media.Index, error) {
			return media.Package(root, j.Title, version, measured.sources()...)
		})
		return found, err
	case stepVerify:
		x, err := s.packaged(ctx, tools, h, dir)
		if err != nil {
			return nothing, err
		}
		return nothing, tools.Verify(ctx, dir, x, j.frames())
	case stepUpload:
		x, err := s.packaged(ctx, tools, h, dir)
		if err != nil {
			return nothing, err
		}
		a, err := s.upload(ctx, h, dir, x)
		if err != nil {
			return nothing, err
		}
		b, err := protojson.Marshal(a)
		return func(j *job) { j.Asset = b }, err
	case stepPublish:
		return nothing, s.publish(ctx, j)
	}
	return nothing, services.Errorf(services.Internal, "transcode: there is no step %q", st)
}

// fetch brings the original into scratch unless it is there.
func (s *Server) fetch(ctx context.Context, j *job, dir string) (string, error) {
	to := filepath.Join(dir, originalName)
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	body, err := s.d.Objects.Get(ctx, objects.BucketOriginals, j.OriginalKey, 0, 0)
	if err != nil {
		return "", services.Wrap("transcode: the original", err)
	}
	defer body.Close()
	f, err := os.CreateTemp(dir, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) // no longer there when all went well
	n, err := io.Copy(f, io.LimitReader(body, maxOriginalBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", services.Errorf(services.Unavailable, "transcode: the original: %v", err)
	}
	if n > maxOriginalBytes {
		return "", services.Errorf(services.Invalid, "transcode: the original has more than %d bytes", int64(maxOriginalBytes))
	}
	return to, os.Rename(f.Name(), to)
}

func (s *Server) inspect(ctx context.Context, tools media.Tools, j *job, dir string) (media.Original, error) {
	path, err := s.fetch(ctx, j, dir)
	if err != nil {
		return media.Original{}, err
	}
	o, err := tools.Inspect(ctx, path)
	switch {
	case errors.Is(err, media.ErrNoVideo):
		return o, services.Errorf(services.Invalid, "%s: %v", filepath.Base(j.OriginalKey), err).WithRemedy("give a video file that ffmpeg can read, e.g. MP4, MKV or WebM")
	case errors.Is(err, media.ErrCutOff):
		return o, services.Errorf(services.Invalid, "%s: %v", filepath.Base(j.OriginalKey), err).WithRemedy("give the whole file")
	case err != nil:
		return o, err
	case o.Duration < minDuration || o.Duration > maxDuration:
		return o, services.Errorf(services.Invalid, "%s lasts %s, outside %s to %s", filepath.Base(j.OriginalKey), o.Duration.Round(time.Millisecond), minDuration, maxDuration)
	}
	return o, nil
}

// fps and frames are those of every rung.
func (j *job) fps() int    { return media.FrameRate(j.Original.FPS) }
func (j *job) frames() int { return media.Frames(j.Original.Duration, j.fps()) }

func (j *job) ladder() []media.Rung {
	return media.Ladder(j.Original.Width, j.Original.Height, float64(j.fps()))
}

// sources are the tracks that encode makes.
func (j *job) sources() []media.Source {
	var out []media.Source
	for _, r := range j.ladder() {
		out = append(out, media.Source{ID: r.ID, Path: r.ID + ".mp4", SSIM: j.SSIM[r.ID]})
	}
	return append(out, media.Source{ID: media.AudioID, Path: media.AudioID + ".mp4"})
}

// encoding is what is made of an original in scratch.
func (j *job) encoding(input, dir string) media.Encoding {
	return media.Encoding{
		Input: input, Dir: dir, Ladder: j.ladder(), FPS: j.fps(), Frames: j.frames(),
		Audio: j.Original.Audio, AudioKbps: audioKbps,
		CPU: cpuBase + time.Duration(cpuPerSecond*float64(j.Original.Duration)),
	}
}

// quality compares the rungs with the original. A title is as good without that:
// what ffmpeg cannot tell is logged, and not known.
func (s *Server) quality(ctx context.Context, tools media.Tools, j *job, dir string) (map[string]float64, error) {
	input, err := s.fetch(ctx, j, dir)
	if err != nil {
		return nil, err
	}
	ssim, err := tools.Quality(ctx, j.encoding(input, dir))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		s.d.Tel.Log.Warn("the quality of the rungs is not known", "job", j.ID, "error", err)
		return nil, nil
	}
	return ssim, nil
}

func (s *Server) encode(ctx context.Context, tools media.Tools, h *held, dir string) error {
	j := h.job()
	input, err := s.fetch(ctx, j, dir)
	if err != nil {
		return err
	}
	from, to := steps[stepEncode].at, steps[stepPackage].at
	e := j.encoding(input, dir)
	e.Progress = func(done float64) {
		// Shown at once, stored with the next heartbeat.
		_ = h.change(ctx, false, func(j *job) {
			if j.Step == stepEncode {
				j.Percent = from + done*(to-from)
			}
		})
	}
	_, err = tools.Encode(ctx, e)
	var te *media.ToolError
	if errors.As(err, &te) && ctx.Err() == nil {
		return services.Errorf(services.Invalid, "%s cannot be encoded: %v", filepath.Base(j.OriginalKey), err)
	}
	return err
}

// encoded makes sure that the tracks are there: scratch may have gone since
// they were made.
func (s *Server) encoded(ctx context.Context, tools media.Tools, h *held, dir string) error {
	for _, src := range h.job().sources() {
		if _, err := os.Stat(filepath.Join(dir, src.Path)); err != nil {
			return s.encode(ctx, tools, h, dir)
		}
	}
	return nil
}

// packaged returns the index of the tracks in scratch, made again if they had
// to be.
func (s *Server) packaged(ctx context.Context, tools media.Tools, h *held, dir string) (media.Index, error) {
	j := h.job()
	x, err := inRoot(dir, func(root *os.Root) (media.Index, error) {
		b, err := root.ReadFile(media.IndexPath)
		if err != nil {
			return media.Index{}, err
		}
		x, err := media.ParseIndex(b)
		if err != nil || x.Version != j.Version {
			return x, fs.ErrNotExist // of another run
		}
		return x, x.CheckFiles(root.FS())
	})
	if err == nil {
		return x, nil
	}
	if err := s.encoded(ctx, tools, h, dir); err != nil {
		return media.Index{}, err
	}
	return inRoot(dir, func(root *os.Root) (media.Index, error) {
		return media.Package(root, j.Title, j.Version, j.sources()...)
	})
}

func inRoot(dir string, f func(root *os.Root) (media.Index, error)) (media.Index, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return media.Index{}, err
	}
	defer root.Close()
	return f(root)
}

// publish makes the title known: first to those who serve it, then to those
// who find it, and last to those who may play it.
func (s *Server) publish(ctx context.Context, j *job) error {
	var a cachecontrolpb.Asset
	if err := protojson.Unmarshal(j.Asset, &a); err != nil {
		return services.Errorf(services.Internal, "transcode: the stored asset cannot be read: %v", err)
	}
	// Not in the upload: a job that failed may be submitted again with another date.
	a.AvailableUnixMs, a.MinSites = j.Available, j.MinSites
	bounded := func(what string, f func(ctx context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, s.d.Timing.RPCTimeout.D())
		defer cancel()
		return services.Wrap("transcode: "+what, f(ctx))
	}
	title := sqldb.Title{
		ID: services.TitleID(j.Title), Name: j.Name, Synopsis: j.Synopsis, Genres: []string{}, Countries: j.Countries,
		Duration: time.Duration(a.GetDurationMs()) * time.Millisecond, Live: true, Year: time.UnixMilli(j.Started).UTC().Year(),
		MinSites: int(j.MinSites),
	}
	if j.Available > 0 {
		title.Available = time.UnixMilli(j.Available).UTC()
	}
	var size uint64
	for _, f := range a.GetFiles() {
		size += f.GetSize()
		if f.GetKind() == media.KindVideo {
			title.Rungs = append(title.Rungs, sqldb.Rung{ID: f.GetRung(), Kbps: int(f.GetKbps()), Width: int(f.GetWidth()), Height: int(f.GetHeight())})
		}
	}
	if err := bounded("publish", func(ctx context.Context) error { return s.d.Publish(ctx, &a) }); err != nil {
		return err
	}
	if err := bounded("index", func(ctx context.Context) error {
		return s.d.IndexTitle(ctx, search.Doc{ID: title.ID, Name: title.Name, Synopsis: title.Synopsis, Genres: title.Genres, Countries: title.Countries})
	}); err != nil {
		return err
	}
	if err := bounded("title", func(ctx context.Context) error { return s.d.PutTitle(ctx, title) }); err != nil {
		return err
	}
	e := events.TitleEvent{Header: events.NewHeader(ctx, s.d.Tel), Kind: "published", Title: j.Title, Version: a.GetVersion(), Bytes: size}
	// The same publication is the same event, however often it is sent.
	e.ID = fmt.Sprintf("published/%s/%d", j.Title, a.GetVersion())
	return bounded("event", func(ctx context.Context) error { return s.d.Events.Send(ctx, events.TopicTitles, j.Title, e) })
}
