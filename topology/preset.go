package topology

import (
	"fmt"
	"net/netip"
)

// MaxPresetRegions is the largest preset.
const MaxPresetRegions = 6

type place struct {
	name, country string
}

var places = [MaxPresetRegions]place{
	{"us-east", "US"}, {"us-west", "US"}, {"eu-west", "GB"},
	{"ap-northeast", "JP"}, {"sa-east", "BR"}, {"ap-south", "IN"},
}

// Round-trip times in milliseconds between the preset regions, upper triangle
// in the order of places; rounded from public inter-region measurements of
// cloud providers (us-east is Virginia, us-west Oregon, eu-west Ireland,
// ap-northeast Tokyo, sa-east São Paulo, ap-south Mumbai).
var placeRTT = [MaxPresetRegions][MaxPresetRegions]int{
	{0, 62, 68, 146, 114, 196},
	{0, 0, 124, 98, 174, 218},
	{0, 0, 0, 202, 178, 122},
	{0, 0, 0, 0, 256, 124},
	{0, 0, 0, 0, 0, 300},
	{0, 0, 0, 0, 0, 0},
}

// Preset returns the lab preset of 1 to 6 regions, two zones each.
func Preset(regions int) (Topology, error) {
	if regions < 1 || regions > MaxPresetRegions {
		return Topology{}, fmt.Errorf("regions: %d is outside 1 to %d: choose a number in that range, or declare more with --topology FILE", regions, MaxPresetRegions)
	}
	t := Topology{Timing: LabTiming()}
	for i := range regions {
		t.Regions = append(t.Regions, presetRegion(i))
		for j := range i {
			t.Links = append(t.Links, Link{Between: [2]string{places[j].name, places[i].name}, RTT: Duration(placeRTT[j][i]) * ms})
		}
	}
	return t, nil
}

func presetRegion(i int) Region {
	p := places[i]
	appliances := func(bw Rate) []Appliance {
		a := Appliance{Capacity: 4 << 30, Bandwidth: bw}
		return []Appliance{a, a}
	}
	r := Region{
		Name: p.name, Country: p.country, Zones: []string{"a", "b"},
		Exchange: Exchange{Name: p.name + "-ix", Appliances: appliances(100e9)},
	}
	for k := range 2 {
		// Each region owns a /18 of 198.18.0.0/15, each ISP a /20 of it.
		base := i*64 + k*16
		v4 := netip.AddrFrom4([4]byte{198, byte(18 + base>>8), byte(base), 0})
		v6 := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(i), byte(k)})
		r.ISPs = append(r.ISPs, ISP{
			Name: fmt.Sprintf("%s-isp-%d", p.name, k+1), ASN: uint32(64512 + i*8 + k), Country: p.country,
			Prefixes:   []netip.Prefix{netip.PrefixFrom(v4, 20), netip.PrefixFrom(v6, 48)},
			Appliances: appliances(10e9),
		})
	}
	return r
}
