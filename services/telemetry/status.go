package telemetry

import (
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flix-lab/flix/services"
)

// errorDomain marks the ErrorInfo detail that carries reason and remedy.
const errorDomain = "flix"

// toStatus turns an error into a gRPC status by services' table, with reason
// and remedy as an ErrorInfo detail. A status passes through unchanged.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	var e *services.Error
	if !errors.As(err, &e) {
		if _, ok := status.FromError(err); ok {
			return err
		}
	}
	st := status.New(codes.Code(services.KindOf(err).GRPCCode()), err.Error())
	if e != nil && (e.Reason != "" || e.Remedy != "") {
		if d, derr := st.WithDetails(&errdetails.ErrorInfo{Domain: errorDomain, Reason: e.Reason, Metadata: map[string]string{"remedy": e.Remedy}}); derr == nil {
			st = d
		}
	}
	return st.Err()
}

// FromStatus is the inverse of toStatus.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &services.Error{Kind: services.KindFromGRPC(uint32(st.Code())), Msg: st.Message()}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			e.Reason, e.Remedy = info.GetReason(), info.GetMetadata()["remedy"]
		}
	}
	return e
}
