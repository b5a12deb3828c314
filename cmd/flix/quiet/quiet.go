// Package quiet keeps a library from talking to the terminal before main runs.
//
// bubbletea v1 asks the terminal for its background colour while the program
// initialises, whatever the command, and waits seconds where nobody answers (a
// pty of script, expect or a CI runner). It does not ask a dumb terminal. This
// package says that the terminal is one, before that, and Restore takes it
// back, first thing in main. It imports only os: packages are initialised in
// the order of their paths once their imports are, so it comes before
// bubbletea, which needs golang.org/x/sys. TestNoQuery in package main guards
// that.
package quiet

import "os"

// saved is the real value of TERM, if it was set.
var saved, set = hide()

func hide() (string, bool) {
	term, ok := os.LookupEnv("TERM")
	if ok {
		_ = os.Setenv("TERM", "dumb") // cannot fail for a constant name
	}
	return term, ok
}

// Restore gives the program its terminal back.
func Restore() {
	if set {
		_ = os.Setenv("TERM", saved) // it was a valid value before
	}
}
