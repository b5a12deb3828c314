package transcode

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/flix-lab/flix/services/transcode/transcodepb"
)

// Tools that know nothing of a transcoder find out what it serves and whether it
// does; its end is no matter of those who watch a job or its health.
func TestTellsWhatItServes(t *testing.T) {
	r := newRegion(t)
	conn, stop := r.connect("us-east/a/transcode/1", func() (string, error) { return "", errors.New("none") })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	name := transcodepb.Transcode_ServiceDesc.ServiceName
	watching, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: name})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watching.Recv(); err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", got, err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(reply.GetListServicesResponse().GetService(), func(s *reflectionpb.ServiceResponse) bool { return s.GetName() == name }) {
		t.Errorf("it serves %v", reply)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("reflection ends with %v", err)
	}
	stop()
	if got, err := watching.Recv(); err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health at the end: %v, %v", got, err)
	}
}
