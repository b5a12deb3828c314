package telemetry

import (
	"context"
	"errors"
	"io"
	"sync"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// serverStream is a server's stream whose context carries its span.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context carries the trace of the stream.
func (s serverStream) Context() context.Context { return s.ctx }

// clientStream turns the statuses of a client's stream into services errors
// and ends its span with it.
type clientStream struct {
	grpc.ClientStream
	// single: the server answers once, and that answer ends the stream.
	single bool
	end    func(error)
}

// newClientStream takes over the span. A stream ends by its last Recv, or by
// the caller's context: gRPC asks for one of the two.
func newClientStream(ctx context.Context, s grpc.ClientStream, desc *grpc.StreamDesc, span trace.Span) *clientStream {
	var once sync.Once
	ended := func(err error) { once.Do(func() { End(span, err) }) }
	unwatch := context.AfterFunc(ctx, func() { ended(ctx.Err()) })
	return &clientStream{ClientStream: s, single: !desc.ServerStreams, end: func(err error) { unwatch(); ended(err) }}
}

// Header implements grpc.ClientStream.
func (s *clientStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return md, FromStatus(err)
}

// CloseSend implements grpc.ClientStream.
func (s *clientStream) CloseSend() error { return FromStatus(s.ClientStream.CloseSend()) }

// SendMsg implements grpc.ClientStream. After io.EOF RecvMsg says why the
// stream has ended.
func (s *clientStream) SendMsg(m any) error {
	err := FromStatus(s.ClientStream.SendMsg(m))
	if err != nil && !errors.Is(err, io.EOF) {
		s.end(err)
	}
	return err
}

// RecvMsg implements grpc.ClientStream; io.EOF is the end without an error.
func (s *clientStream) RecvMsg(m any) error {
	err := FromStatus(s.ClientStream.RecvMsg(m))
	switch {
	case errors.Is(err, io.EOF):
		s.end(nil)
	case err != nil || s.single:
		s.end(err)
	}
	return err
}
