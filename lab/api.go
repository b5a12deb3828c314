package lab

import (
	"slices"

	"github.com/flix-lab/flix/lab/player"
	"github.com/flix-lab/flix/services/discovery"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/services/signup"
)

// apiVersion is the version of the public API: it rises when a client would
// have to change.
const apiVersion = "1.0.0"

// OpenAPI is the OpenAPI 3.1 description of the public HTTP API, as JSON.
func OpenAPI() []byte {
	return edge.Document(edge.Info{Title: "flix", Version: apiVersion, Summary: "Sign up, find something to watch, play it"},
		slices.Concat(signup.Operations(), discovery.Operations(), play.Operations())...)
}

// Edge is a client's way to the public API.
type Edge = player.Edge

// Edge makes a client of the public API, where and who the options say. Close
// it.
func (v *Viewer) Edge(o PlayOptions) (*Edge, error) { return v.p.Edge(o) }
