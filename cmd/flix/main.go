// Command flix builds a small planet on one machine (regions, an edge, APIs,
// microservices, stores and a CDN), plays real video through it, and breaks it
// on purpose. See "flix --help".
package main

import (
	"context"
	"os"

	"github.com/flix-lab/flix/cmd/flix/quiet"
)

func main() {
	quiet.Restore()
	os.Exit(run(context.Background(), osEnv()))
}
