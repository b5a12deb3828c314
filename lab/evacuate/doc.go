// Package evacuate moves the control-plane traffic of a region to others and
// back: plan with a capacity check, have DNS answers run out sooner and
// connections kept no longer, pre-scale the savers, proxy in growing shares, move
// DNS, drain, verify, report. It never touches appliances: the video does not move.
//
// It acts on a Planet, a small port that package lab implements, and measures
// what viewers feel by canary plays that run all the while.
package evacuate
