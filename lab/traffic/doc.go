// Package traffic is fleets of players: so many viewers at once over time, each
// a whole session of package player against a running lab, over sockets. It
// counts what they felt and judges it.
//
// A fleet is bounded: in memory, since nothing is kept of a play once it is
// over but sums, histograms and a few errors; and in what it asks of a lab that
// is broken, since a viewer whose play failed waits before the next one. It
// never reuses one viewer's connections or TLS session tickets for another; a
// viewer's next play resumes the sessions of the one before, as a device does.
package traffic
