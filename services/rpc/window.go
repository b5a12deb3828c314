package rpc

import "google.golang.org/grpc"

// Windows of HTTP/2 flow control, in bytes: how much one call, and one
// connection, may have on its way unread. They suffice for 100 Mb/s over the
// longest path of a planet, and are the most that gRPC would find itself.
//
// Fixed ones spare gRPC to look for them: it would send a ping and a window with
// nearly every message, both ways, which in a lab of small calls is more than
// the messages themselves.
const (
	callWindow       = 4 << 20
	connectionWindow = 16 << 20
)

// DialOptions are those of every client of a server of the lab's.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithInitialWindowSize(callWindow), grpc.WithInitialConnWindowSize(connectionWindow)}
}

// ServerOptions are those of every server.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.InitialWindowSize(callWindow), grpc.InitialConnWindowSize(connectionWindow)}
}
