// Package elb is the load balancer of one zone: it takes the connections of
// clients and passes their bytes to a gateway, without looking into them.
//
// It promises that a client whose connection it accepted reaches a gateway as
// long as one of the region accepts connections (those of its own zone first),
// and that the gateway learns the client's address, in a PROXY protocol v2
// header that this balancer writes itself. It never ends TLS, never reads a
// request and never believes a client without such a header on the port where
// one is required.
package elb
