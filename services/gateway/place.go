package gateway

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// placeSlots bounds the client addresses whose place is remembered.
const placeSlots = 8192

// place is where a client is, as the topology says.
type place struct {
	addr         netip.Addr
	text         string // addr as headers have it
	country, isp string
	of           *topology.Region // first of the topology that says so
}

// places remembers where clients are: to look an address up among all prefixes
// takes longer than the rest of the chain. A new topology is a new place.
type places struct {
	seed  maphash.Seed
	slots [placeSlots]atomic.Pointer[place]
}

func newPlaces() *places { return &places{seed: maphash.MakeSeed()} }

// of returns the place of an address, seen from a region.
func (p *places) of(t topology.Topology, addr netip.Addr, region string) *place {
	var first *topology.Region
	if len(t.Regions) > 0 {
		first = &t.Regions[0]
	}
	b := addr.As16()
	slot := &p.slots[maphash.Bytes(p.seed, b[:])%placeSlots]
	if known := slot.Load(); known != nil && known.addr == addr && known.of == first {
		return known
	}
	found := &place{addr: addr, of: first}
	if addr.IsValid() {
		found.text = addr.String()
	}
	if isp, _, ok := t.Locate(addr); ok {
		found.country, found.isp = isp.Country, isp.Name
	} else if c := t.CountryOf(addr); c != "" {
		found.country = c
	} else if r, ok := t.Region(region); ok {
		// A client of no declared ISP, a browser on this machine say, is
		// taken for one near this region.
		found.country = r.Country
	}
	slot.Store(found)
	return found
}

// locate is the inbound filter that finds out where the client is and what it
// watches on.
func (s *Server) locate(ex *Exchange) error {
	ex.place = s.places.of(s.d.Topology(), ex.Client, s.d.Region)
	ex.Country, ex.ISP = ex.place.country, ex.place.isp
	if ex.Member != nil {
		ex.Device = ex.Member.Device
	}
	if ex.Device == "" {
		ex.Device = deviceOf(ex.Request.Header)
	}
	return nil
}

// deviceOf guesses a device from what a client says of itself, for routes and
// never for rights: the client hint Sec-CH-UA-Mobile if there is one, else
// words in User-Agent that only such devices have; "" if nothing tells.
func deviceOf(h Header) string {
	agent := h.Get("User-Agent")
	for _, word := range [...]string{"SmartTV", "SMART-TV", "Smart-TV", "AppleTV", "Apple TV", "GoogleTV", "Android TV", "BRAVIA", "Roku", "Tizen", "Web0S", "webOS", "AFT", "CrKey", "PlayStation", "Xbox"} {
		if strings.Contains(agent, word) {
			return token.DeviceTV
		}
	}
	if h.Get("Sec-Ch-Ua-Mobile") == "?1" {
		return token.DevicePhone
	}
	if strings.Contains(agent, "iPad") || strings.Contains(agent, "Tablet") {
		return token.DeviceTablet
	}
	for _, word := range [...]string{"iPhone", "Android", "Mobile"} {
		if strings.Contains(agent, word) {
			return token.DevicePhone
		}
	}
	if strings.HasPrefix(agent, "Mozilla/") {
		return token.DeviceWeb
	}
	return ""
}
