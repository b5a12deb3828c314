package rpc

import (
	"context"
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// TrailerLoad ends every answer with what its server says of its load: a
// serialised xds.data.orca.v3.OrcaLoadReport, as any client of gRPC that
// balances by load expects it (gRFC A51, "Custom Backend Metrics Support"; the
// message is cncf/xds, xds/data/orca/v3/orca_load_report.proto).
const TrailerLoad = "endpoint-load-metrics-bin"

// Fields of OrcaLoadReport that are sent or read.
const (
	fieldCPU         = 1 // double cpu_utilization
	fieldRPS         = 6 // double rps_fractional
	fieldApplication = 9 // double application_utilization
)

// atOnce is how many calls an instance is good for at once. What counts is only
// that it is the same for all instances of a role: a balancer compares.
const atOnce = 256

// Report is what a server says of its load.
type Report struct {
	// Utilisation is the share of the server in use: 0 is idle, 1 full, more is
	// overloaded. As read it is the application's own measure, else the
	// processor's (gRFC A51).
	Utilisation float64
	// Rate is the calls answered per second.
	Rate float64
}

// encode is the report on the wire.
func (r Report) encode() string {
	b := make([]byte, 0, 18)
	for _, f := range [...]struct {
		field protowire.Number
		value float64
	}{{fieldRPS, r.Rate}, {fieldApplication, r.Utilisation}} {
		if f.value != 0 { // as proto3 has it
			b = protowire.AppendTag(b, f.field, protowire.Fixed64Type)
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(f.value))
		}
	}
	return string(b)
}

// parseReport reads a report. Fields that it does not know are skipped; a report
// that is broken, or says what cannot be, is no news.
func parseReport(s string) (r Report, ok bool) {
	var cpu float64
	for b := []byte(s); len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return Report{}, false
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return Report{}, false
		}
		if typ == protowire.Fixed64Type {
			v := math.Float64frombits(binary.LittleEndian.Uint64(b))
			switch {
			case num != fieldCPU && num != fieldRPS && num != fieldApplication:
			case !(v >= 0) || math.IsInf(v, 0): // NaN is not
				return Report{}, false
			case num == fieldCPU:
				cpu = v
			case num == fieldRPS:
				r.Rate = v
			default:
				r.Utilisation = v
			}
		}
		b = b[n:]
	}
	if r.Utilisation == 0 {
		r.Utilisation = cpu
	}
	return r, true
}

// gauge measures what a server says of its load.
type gauge struct {
	inFlight atomic.Int64
	answered atomic.Int64 // since began
	began    atomic.Int64 // Unix nanoseconds
	rate     atomic.Int64 // of the last whole second or more
	last     atomic.Pointer[said]
}

// said is a report that is ready to be sent, again and again until it changes.
type said struct {
	inFlight, rate int64
	trailer        metadata.MD
}

// trailer is the report of the moment, the call that ends included.
func (g *gauge) trailer(now time.Time) metadata.MD {
	n := g.inFlight.Load()
	if began, t := g.began.Load(), now.UnixNano(); t-began >= int64(time.Second) && g.began.CompareAndSwap(began, t) {
		// Before the first call of all, began is long ago, and the rate 0.
		g.rate.Store(int64(math.Round(float64(g.answered.Swap(0)) * float64(time.Second) / float64(t-began))))
	}
	g.answered.Add(1)
	rate := g.rate.Load()
	if s := g.last.Load(); s != nil && s.inFlight == n && s.rate == rate {
		return s.trailer
	}
	s := &said{n, rate, metadata.MD{TrailerLoad: {Report{Utilisation: float64(n) / atOnce, Rate: float64(rate)}.encode()}}}
	g.last.Store(s)
	return s.trailer
}

// options make a server measure its load and say it with every answer. Streams
// do not count as load: most of them wait for news.
func (g *gauge) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			g.inFlight.Add(1)
			defer g.inFlight.Add(-1)
			resp, err := next(ctx, req)
			_ = grpc.SetTrailer(ctx, g.trailer(time.Now())) // fails outside of a server's handler only
			return resp, err
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			err := next(srv, ss)
			ss.SetTrailer(g.trailer(time.Now()))
			return err
		}),
	}
}

// reportOf finds the report among the trailers of an answer.
func reportOf(trailer metadata.MD) (Report, bool) {
	v := trailer[TrailerLoad]
	if len(v) == 0 {
		return Report{}, false
	}
	return parseReport(v[0])
}
