// Package wan emulates the wide-area network between the regions of a lab.
//
// It sits on the dialing side only. A Table knows which region an address
// belongs to and how far the regions are apart; a dialer made by it delays
// every byte, and every datagram, by half the round-trip time in each
// direction and holds a connection to the bandwidth its link declares. Where
// nothing is declared the dialer hands out the plain connection of package
// net, so that the kernel's fast paths (splice, sendfile) keep working; it
// never wraps a listener.
//
// Faults of the network are rules of the same table (Rule): they act between any
// two sides, inside a region too, and end by their own clock.
//
// What it promises: order is kept, nothing is lost on a stream, throughput is
// bound by the declared bandwidth and not by the delay, and the bytes under
// way are bounded. What it never does: corrupt or reorder a stream, or, without a
// rule that says so, drop a datagram or cut a connection.
package wan
