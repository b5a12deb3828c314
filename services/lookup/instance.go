package lookup

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

// The statuses of an instance. Only UP ones are given work.
const (
	StatusUp           = eureka.StatusUp
	StatusDown         = eureka.StatusDown
	StatusStarting     = eureka.StatusStarting
	StatusOutOfService = eureka.StatusOutOfService
	StatusUnknown      = eureka.StatusUnknown
)

// Metadata keys under which an Instance's own fields travel.
const (
	metaRegion = "region"
	metaZone   = "zone"
	metaPort   = "port."
)

// Instance is one instance as the registry knows it. Its maps are shared:
// nobody changes them.
type Instance struct {
	// ID of the instance, e.g. "us-east/a/kv/1".
	ID string
	// App groups instances in the registry; VIP is the name callers ask for.
	// Both are the role's name.
	App, VIP string
	// Region and Zone it runs in.
	Region, Zone string
	// Host is its address without a port.
	Host string
	// Status is UP, STARTING, OUT_OF_SERVICE, DOWN or UNKNOWN.
	Status string
	// Ports by name (topology.Port…).
	Ports map[string]int
	// Metadata are further settings.
	Metadata map[string]string
}

// Addr is "host:port" of the named port, or "" if the instance has none.
func (i Instance) Addr(port string) string {
	n, ok := i.Ports[port]
	if !ok || n == 0 {
		return ""
	}
	return net.JoinHostPort(i.Host, strconv.Itoa(n))
}

func (i Instance) equal(o Instance) bool {
	return i.ID == o.ID && i.App == o.App && i.VIP == o.VIP && i.Region == o.Region && i.Zone == o.Zone &&
		i.Host == o.Host && i.Status == o.Status && maps.Equal(i.Ports, o.Ports) && maps.Equal(i.Metadata, o.Metadata)
}

var (
	idEncoder = strings.NewReplacer("~", "~0", ":", "~1", "/", ":")
	idDecoder = strings.NewReplacer("~0", "~", "~1", ":", ":", "/")
)

// EncodeID turns an instance id into one that is a single URL path segment:
// "/" becomes ":". DecodeID is its inverse.
func EncodeID(id string) string { return idEncoder.Replace(id) }

// DecodeID is the inverse of EncodeID.
func DecodeID(s string) string { return idDecoder.Replace(s) }

// toWire renders the instance for the registry.
func (i Instance) toWire(dirty int64) *eureka.Instance {
	meta := make(eureka.Metadata, len(i.Metadata)+len(i.Ports)+2)
	maps.Copy(meta, i.Metadata)
	meta[metaRegion], meta[metaZone] = i.Region, i.Zone
	var names []string
	for name, n := range i.Ports {
		meta[metaPort+name] = strconv.Itoa(n)
		names = append(names, name)
	}
	slices.Sort(names)
	w := &eureka.Instance{
		InstanceID: EncodeID(i.ID), HostName: i.Host, App: strings.ToUpper(i.App), IPAddr: i.Host,
		Status: i.Status, OverriddenStatus: StatusUnknown, VIP: i.VIP, SecureVIP: i.VIP, CountryID: 1,
		DataCenter: eureka.DataCenter{Class: eureka.ClassMyOwn, Name: "MyOwn"},
		Metadata:   meta, LastDirty: eureka.Millis(dirty), LastUpdated: eureka.Millis(dirty),
	}
	// Stock clients know one plain and one secure port: give them the likeliest.
	w.Port = wirePort(i.Ports, append([]string{"http", "rpc", "client"}, names...))
	w.SecurePort = wirePort(i.Ports, []string{"tls"})
	return w
}

func wirePort(ports map[string]int, names []string) eureka.Port {
	for _, n := range names {
		if p := ports[n]; p != 0 {
			return eureka.Port{Number: eureka.Num(p), Enabled: true}
		}
	}
	return eureka.Port{}
}

// fromWire reads an instance that this package, or a stock client, registered.
func fromWire(w *eureka.Instance) Instance {
	i := Instance{
		ID: DecodeID(w.InstanceID), App: strings.ToLower(w.App), VIP: w.VIP, Host: w.HostName,
		Status: eureka.ParseStatus(w.Status), Region: w.Metadata[metaRegion], Zone: w.Metadata[metaZone],
		Ports: make(map[string]int, 4), Metadata: make(map[string]string, len(w.Metadata)),
	}
	if _, err := netip.ParseAddr(w.IPAddr); err == nil {
		i.Host = w.IPAddr // the same host, without a name to resolve
	}
	for k, v := range w.Metadata {
		name, isPort := strings.CutPrefix(k, metaPort)
		if n, err := strconv.Atoi(v); isPort && err == nil {
			i.Ports[name] = n
		} else if k != metaRegion && k != metaZone {
			i.Metadata[k] = v
		}
	}
	if len(i.Ports) == 0 {
		if w.Port.Enabled {
			i.Ports["http"] = int(w.Port.Number)
		}
		if w.SecurePort.Enabled {
			i.Ports["tls"] = int(w.SecurePort.Number)
		}
	}
	return i
}
