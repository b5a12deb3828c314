// Package abr holds the player's adaptation: which rung of the ladder the next
// segment is taken in, when a download is given up for a smaller one, and when
// a buffered segment is worth fetching again in a better rung.
//
// Every algorithm stands behind one interface, is pure, and lives in virtual
// time: it is told what happened and how long it took, never reads a clock,
// and never does I/O. The player drives an algorithm with real transfers,
// package sim with traces, and neither knows which one it drives.
//
// Units throughout: milliseconds, bits, and kbit/s (bits per millisecond).
package abr
