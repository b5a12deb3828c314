// Package sim plays a title over a network trace in virtual time, with the
// player's own adaptation (package abr), and scores the session.
//
// It models what the public simulator Sabre models, in the same order of
// operations, so that the same algorithm gives the same figures: one transfer
// at a time, a trace that loops, a request that waits one latency before its
// first byte, a buffer of whole segments. Source: Spiteri, Sitaraman,
// Sparacio, "From Theory to Practice: Improving Bitrate Adaptation in the DASH
// Reference Player" (2018), and https://github.com/UMass-LIDS/sabre.
//
// It does no I/O, and every session is bounded.
package sim
