// Package fault has the faults of a lab as values: what kind, on what, how
// strong, until when. It knows every kind with its parameters, resolves
// targets, says beforehand whom a fault touches (Blast) and refuses one that
// would leave no region or break a quorum.
//
// It promises that a planned Fault says everything its enforcement needs: it is
// pushed to where it acts as one JSON value with an expiry, and lapses there
// by itself. What it never does: act. Package lab enforces.
package fault
