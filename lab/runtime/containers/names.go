package containers

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/flix-lab/flix/topology"
)

// Labels of everything a lab makes on the engine.
const (
	labelLab     = "lab.flix.name"    // the lab's name
	labelDir     = "lab.flix.dir"     // its folder: what tells two labs of one name apart
	labelHost    = "lab.flix.host"    // the fault domain: a region, or "oc"
	labelSpecs   = "lab.flix.specs"   // the instances inside, as JSON
	labelRole    = "lab.flix.role"    // of the instance, or "agent" or "pack"
	labelID      = "lab.flix.id"      // of the instance, agent or pack
	labelAddress = "lab.flix.address" // of the container
	labelSum     = "lab.flix.sum"     // digest of the container's declaration
)

// prefix begins the name of everything of a lab. The digest keeps two labs of
// one name, of different users, apart.
func prefix(lab, dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "flix-" + lab + "-" + hex.EncodeToString(sum[:2])
}

// containerName is the name of the container of an instance or agent.
func (r *Runtime) containerName(id string) string {
	return r.prefix + "-" + strings.ReplaceAll(id, "/", "-")
}

func (r *Runtime) networkName() string { return r.prefix }

// agentID names the agent of a region.
func agentID(region string) string { return region + "/agent" }

// packID names the container that holds a zone's services, or a site's
// appliances, when they are packed.
func packID(i topology.Instance) string { return i.Region + "/" + i.Zone }

func (r *Runtime) labels(host, role string) map[string]string {
	return map[string]string{labelLab: r.c.Lab, labelDir: r.c.Dir, labelHost: host, labelRole: role}
}
