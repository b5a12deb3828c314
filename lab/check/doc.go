// Package check writes into a lab as a client of one region, remembers every
// write that was acknowledged, and looks afterwards which of them are still
// there: the measure of what a loss or an evacuation cost.
//
// It promises that a write counts as acknowledged only once it is in a log on
// disk of the checker's own, so that no store vouches for itself; that a write
// which failed counts as refused, whatever became of it; and that one is called
// lost only when no region that answers has it. It never repairs anything.
package check
