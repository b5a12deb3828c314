// Package embedded is the runtime that needs nothing installed: one host
// process per cloud region and one for all Open Connect sites. A host runs its
// instances as supervised units, each with listeners of its own on loopback.
//
// Host processes outlive the daemon that started them; the runtime finds them
// again by the journal and the process table, and ends only processes that it
// can prove to be its own (pid, start time and executable).
package embedded
