// Package experiment runs chaos experiments: a hypothesis about what viewers
// feel while something is broken, tried on two groups of equal traffic, with a
// verdict and how sure it is.
//
// An experiment is a YAML file (Parse says what is wrong with one, and where).
// Run plays as both groups through a narrow port (Viewers), breaks things
// through another (Lab), gives up when viewers suffer more than was agreed, and
// judges. It promises that no fault outlives it by more than its time to live,
// and that the same seed asks for the same viewers in the same order.
//
// It never plays video or breaks anything itself.
package experiment
