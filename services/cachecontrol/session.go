package cachecontrol

import (
	"fmt"
	"net/url"
	"strings"
	"sync"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// maxQueued bounds what waits for one appliance's stream. Orders are at most
// maxInFlight; the rest is Verify and Rescan, asked for from outside.
const maxQueued = 256

// outbound is an order, or a message that is sent as it is.
type outbound struct {
	order   *order
	message *pb.ControlMessage
}

// session is the sending side of one appliance's stream. Safe for concurrent
// use.
type session struct {
	note   chan struct{} // has a token when the queue is not empty
	closed chan struct{}

	mu    sync.Mutex
	queue []outbound
	ended bool
}

func newSession() *session {
	return &session{note: make(chan struct{}, 1), closed: make(chan struct{})}
}

// enqueue queues a message. A stream that does not keep up is closed: when the
// appliance comes back, its Hello tells what it missed.
func (se *session) enqueue(o outbound) {
	se.mu.Lock()
	defer se.mu.Unlock()
	if se.ended {
		return
	}
	if len(se.queue) >= maxQueued {
		se.ended = true
		close(se.closed)
		return
	}
	se.queue = append(se.queue, o)
	select {
	case se.note <- struct{}{}:
	default:
	}
}

func (se *session) take() []outbound {
	se.mu.Lock()
	defer se.mu.Unlock()
	q := se.queue
	se.queue = nil
	return q
}

func (se *session) close() {
	se.mu.Lock()
	defer se.mu.Unlock()
	if !se.ended {
		se.ended = true
		close(se.closed)
	}
}

// sourceURL is where an appliance fetches a file from: presigned at an object
// store, or the fill URL of another appliance.
func (s *Server) sourceURL(src source) (string, error) {
	if src.appliance != "" {
		return fmt.Sprintf("%s/fill/%s/%d/%s", src.fillURL, url.PathEscape(src.ref.title), src.ref.version, escapePath(src.ref.path)), nil
	}
	return s.d.Presign(src.region, objectKey(src.ref))
}

// objectKey is the key of a file in the bucket "media".
func objectKey(ref fileRef) string {
	return fmt.Sprintf("titles/%s/%d/%s", ref.title, ref.version, ref.path)
}

func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}
