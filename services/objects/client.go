package objects

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/flix-lab/flix/services"
)

const (
	// signRegion is the region in signatures; the lab's store has only one.
	signRegion = "us-east-1"
	// signHost stands in the Host header, so that a signature does not depend
	// on which address the store has at the moment.
	signHost = "s3.flix.test"
	// partSize of multipart uploads: small, since a part may be buffered.
	partSize = 8 << 20
	// uploadThreads is how many parts of one upload travel at once.
	uploadThreads = 2
	// maxAttempts of one request, with growing pauses between them.
	maxAttempts = 4

	idleConns             = 8
	clientIdleTimeout     = 30 * time.Second
	responseHeaderTimeout = 30 * time.Second
)

// Buckets of the lab.
const (
	// BucketMedia holds published titles: titles/<title>/<version>/<path>.
	BucketMedia = "media"
	// BucketOriginals holds uploads: <job>/<file name>.
	BucketOriginals = "originals"
)

// ClientConfig is what a client of an object store needs.
type ClientConfig struct {
	// Endpoint returns the store's host:port. It is asked for every request
	// and should answer from memory.
	Endpoint func(context.Context) (string, error)
	// AccessKey and SecretKey sign the requests.
	AccessKey, SecretKey string
	// Dial opens connections; nil for a plain dialer.
	Dial services.DialFunc
}

// StaticEndpoint is an Endpoint that never changes.
func StaticEndpoint(hostport string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return hostport, nil }
}

// Info describes an object.
type Info struct {
	Key         string
	Size        int64
	ETag        string
	ContentType string
	Modified    time.Time
	// SHA256 of the data in hexadecimal; "" where the store does not tell, and
	// in listings.
	SHA256 string
}

// Client speaks S3. All methods are safe for concurrent use and retry a few
// times what may be retried; they fail with services.Unavailable when the
// store is out of reach.
type Client struct {
	core      *minio.Core
	cfg       ClientConfig
	transport *http.Transport
}

// NewClient makes a client. It opens no connection.
func NewClient(c ClientConfig) (*Client, error) { return newClient(c, maxAttempts) }

func newClient(c ClientConfig, attempts int) (*Client, error) {
	if c.Endpoint == nil || c.AccessKey == "" || c.SecretKey == "" {
		return nil, services.Errorf(services.Invalid, "objects.NewClient: Endpoint, AccessKey and SecretKey are required")
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	t := &http.Transport{
		DialContext: c.Dial, DisableCompression: true,
		MaxIdleConnsPerHost: idleConns, IdleConnTimeout: clientIdleTimeout, ResponseHeaderTimeout: responseHeaderTimeout,
	}
	core, err := minio.NewCore(signHost, &minio.Options{
		Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Region: signRegion, BucketLookup: minio.BucketLookupPath,
		Transport: router{c.Endpoint, t}, MaxRetries: attempts,
	})
	if err != nil {
		return nil, services.Wrap("objects.NewClient", err)
	}
	return &Client{core: core, cfg: c, transport: t}, nil
}

// Close drops the idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// router sends each request to where the store is now.
type router struct {
	endpoint func(context.Context) (string, error)
	next     http.RoundTripper
}

func (t router) RoundTrip(r *http.Request) (*http.Response, error) {
	host, err := t.endpoint(r.Context())
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.URL.Host = host
	return t.next.RoundTrip(r)
}

// EnsureBucket makes the bucket unless it is there.
func (c *Client) EnsureBucket(ctx context.Context, bucket string) error {
	err := c.core.MakeBucket(ctx, bucket, minio.MakeBucketOptions{})
	if code := minio.ToErrorResponse(err).Code; code == "BucketAlreadyOwnedByYou" || code == "BucketAlreadyExists" {
		return nil
	}
	return mapError("objects.EnsureBucket "+bucket, err)
}

// Put stores size bytes of r under key, replacing what is there; the object
// appears whole or not at all. A size of -1 means up to the end of r and
// buffers a part at a time.
func (c *Client) Put(ctx context.Context, bucket, key string, r io.Reader, size int64, contentType string) (Info, error) {
	up, err := c.core.Client.PutObject(ctx, bucket, key, r, size, minio.PutObjectOptions{ContentType: contentType, PartSize: partSize, NumThreads: uploadThreads})
	if err != nil {
		return Info{}, mapError("objects.Put "+bucket+"/"+key, err)
	}
	return Info{Key: key, Size: up.Size, ETag: up.ETag, ContentType: contentType, Modified: up.LastModified}, nil
}

// PutFile stores the contents of an open file, from its start.
func (c *Client) PutFile(ctx context.Context, bucket, key string, f *os.File, contentType string) (Info, error) {
	st, err := f.Stat()
	if err != nil {
		return Info{}, services.Wrap("objects.PutFile "+bucket+"/"+key, err)
	}
	return c.Put(ctx, bucket, key, io.NewSectionReader(f, 0, st.Size()), st.Size(), contentType)
}

// Get reads length bytes of an object from offset; a length of 0 or less
// reads to the end. The caller closes the reader.
func (c *Client) Get(ctx context.Context, bucket, key string, offset, length int64) (io.ReadCloser, error) {
	op := "objects.Get " + bucket + "/" + key
	var opts minio.GetObjectOptions
	var err error
	switch {
	case length > 0:
		err = opts.SetRange(offset, offset+length-1)
	case offset > 0:
		err = opts.SetRange(offset, 0)
	}
	if err != nil {
		return nil, services.Errorf(services.Invalid, "%s: %v", op, err)
	}
	body, _, _, err := c.core.GetObject(ctx, bucket, key, opts)
	if err != nil {
		return nil, mapError(op, err)
	}
	return body, nil
}

// Stat describes an object, or fails with services.NotFound.
func (c *Client) Stat(ctx context.Context, bucket, key string) (Info, error) {
	o, err := c.core.Client.StatObject(ctx, bucket, key, minio.StatObjectOptions{Checksum: true})
	if err != nil {
		return Info{}, mapError("objects.Stat "+bucket+"/"+key, err)
	}
	i := infoOf(o)
	if sum, err := base64.StdEncoding.DecodeString(o.ChecksumSHA256); err == nil {
		i.SHA256 = hex.EncodeToString(sum)
	}
	return i, nil
}

// List returns every object whose key begins with prefix, in key order.
func (c *Client) List(ctx context.Context, bucket, prefix string) ([]Info, error) {
	var out []Info
	for o := range c.core.Client.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, mapError("objects.List "+bucket+"/"+prefix, o.Err)
		}
		out = append(out, infoOf(o))
	}
	return out, mapError("objects.List "+bucket+"/"+prefix, ctx.Err())
}

func infoOf(o minio.ObjectInfo) Info {
	return Info{Key: o.Key, Size: o.Size, ETag: unquote(o.ETag), ContentType: o.ContentType, Modified: o.LastModified}
}

// Delete removes an object; deleting what is not there is no error.
func (c *Client) Delete(ctx context.Context, bucket, key string) error {
	return mapError("objects.Delete "+bucket+"/"+key, c.core.Client.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{}))
}

// Presign returns a URL that reads the object without credentials for ttl, at
// most seven days. It asks Endpoint for the address and does no other I/O; it
// does not look whether there is such an object.
func (c *Client) Presign(ctx context.Context, bucket, key string, ttl time.Duration) (string, error) {
	host, err := c.cfg.Endpoint(ctx)
	if err != nil {
		return "", mapError("objects.Presign "+bucket+"/"+key, err)
	}
	if ttl < time.Second || ttl > maxPresign {
		return "", services.Errorf(services.Invalid, "objects.Presign %s/%s: a signed URL lives between a second and seven days, not %s", bucket, key, ttl)
	}
	return presign(presigned{host: host, bucket: bucket, key: key, accessKey: c.cfg.AccessKey, secretKey: c.cfg.SecretKey, ttl: ttl, at: time.Now()}), nil
}

// mapError gives an error of the S3 client its kind.
func mapError(op string, err error) error {
	if err == nil {
		return nil
	}
	var resp minio.ErrorResponse
	var known *services.Error
	switch {
	case errors.As(err, &known):
		return services.Wrap(op, err)
	case !errors.As(err, &resp) || resp.StatusCode == 0:
		return &services.Error{Op: op, Kind: services.Unavailable, Msg: "the object store is out of reach", Err: err}
	}
	e := &services.Error{Op: op, Kind: services.KindFromHTTP(resp.StatusCode), Reason: resp.Code, Err: err}
	switch resp.StatusCode {
	case http.StatusPreconditionFailed:
		e.Kind = services.Conflict
	case http.StatusInsufficientStorage:
		e.Kind, e.Msg = services.Exhausted, "the object store's disk is full"
		e.Remedy = "free space on the disk of the lab's state (XDG_STATE_HOME, else ~/.local/state) and run the same command again; flix lab snapshot ls shows what may go"
	case http.StatusInternalServerError:
		e.Kind, e.Remedy = services.Internal, "flix lab logs shows what the object store says of it"
	}
	return e
}
