package topology

import (
	"fmt"
	"net/netip"

	"gopkg.in/yaml.v3"
)

// reader of one field's node.
type fieldReader = func(n *yaml.Node, field string)

func (p *parser) topology(n *yaml.Node) Topology {
	t := Topology{Timing: LabTiming()}
	var drafts []regionDraft
	p.fields(n, "", map[string]fieldReader{
		"name":   func(n *yaml.Node, f string) { t.Name = p.str(n, f, "my-lab") },
		"timing": func(n *yaml.Node, f string) { t.Timing = p.timing(n, f) },
		"regions": func(n *yaml.Node, f string) {
			p.list(n, f, "a list of regions, e.g. [us-east, eu-west]", MaxRegions, func(n *yaml.Node, f string, _ int) {
				drafts = append(drafts, p.region(n, f))
			})
		},
		"links": func(n *yaml.Node, f string) {
			p.list(n, f, "a list of links, e.g. [{between: [us-east, eu-west], rtt: 68ms}]", MaxRegions*MaxRegions, func(n *yaml.Node, f string, _ int) {
				t.Links = append(t.Links, p.link(n, f))
			})
		},
		"bgp":        func(n *yaml.Node, f string) { t.BGP = p.flag(n, f) },
		"containers": func(n *yaml.Node, f string) { t.Containers = p.containers(n, f) },
	})
	t.Regions = complete(drafts)
	return t
}

func (p *parser) containers(n *yaml.Node, field string) Containers {
	var c Containers
	p.fields(n, field, map[string]fieldReader{
		"profile":  func(n *yaml.Node, f string) { c.Profile = Profile(p.str(n, f, "small")) },
		"pack":     func(n *yaml.Node, f string) { c.Pack = Pack(p.str(n, f, "zone")) },
		"network":  func(n *yaml.Node, f string) { c.Network = Network(p.str(n, f, "bridge")) },
		"registry": func(n *yaml.Node, f string) { c.Registry = p.str(n, f, "registry.example.org/mirror") },
		"images": func(n *yaml.Node, f string) {
			c.Images = map[string]string{}
			readers := map[string]fieldReader{}
			for _, name := range Components() {
				readers[name] = func(n *yaml.Node, f string) { c.Images[name] = p.str(n, f, "cassandra:5.0.5") }
			}
			p.fields(n, f, readers)
		},
	})
	return c
}

func (p *parser) timing(n *yaml.Node, field string) Timing {
	preset := func(n *yaml.Node, field string) Timing {
		switch p.str(n, field, "lab") {
		case "lab":
			return LabTiming()
		case "production":
			return ProductionTiming()
		}
		p.fail(n, field, "is not a timing preset", "write lab or production")
		return LabTiming()
	}
	if n.Kind == yaml.ScalarNode {
		return preset(n, field)
	}
	// The preset is the start, wherever in the mapping it stands.
	t := LabTiming()
	var set []func()
	readers := map[string]fieldReader{"preset": func(n *yaml.Node, f string) { t = preset(n, f) }}
	for _, tf := range timingFields(&t) {
		readers[tf.name] = func(n *yaml.Node, f string) {
			var d Duration
			p.text(n, f, "30s", d.UnmarshalText)
			set = append(set, func() { *tf.value = d })
		}
	}
	p.fields(n, field, readers)
	for _, f := range set {
		f()
	}
	return t
}

func (p *parser) region(n *yaml.Node, field string) regionDraft {
	var d regionDraft
	if n.Kind == yaml.ScalarNode {
		d.Name = p.str(n, field, "us-east")
		p.lines[field+".name"] = n.Line
		return d
	}
	p.fields(n, field, map[string]fieldReader{
		"name":       func(n *yaml.Node, f string) { d.Name = p.str(n, f, "us-east") },
		"country":    func(n *yaml.Node, f string) { d.Country = p.str(n, f, "US") },
		"utc_offset": func(n *yaml.Node, f string) { d.UTCOffset = UTCOffset(p.str(n, f, "\"-05:00\"")) },
		"zones": func(n *yaml.Node, f string) {
			d.Zones = []string{}
			p.list(n, f, "a list of zones, e.g. [a, b]", MaxZones, func(n *yaml.Node, f string, _ int) {
				d.Zones = append(d.Zones, p.str(n, f, "a"))
			})
		},
		"services": func(n *yaml.Node, f string) { d.Services = p.services(n, f) },
		"exchange": func(n *yaml.Node, f string) { d.Exchange, d.exchangeGiven = p.exchange(n, f) },
		"isps": func(n *yaml.Node, f string) {
			d.ispsGiven = true
			if isCount(n) {
				count, _ := p.number(n, f, 0, MaxISPs)
				d.isps = make([]ispDraft, count)
				return
			}
			p.list(n, f, "a number, or a list of ISPs", MaxISPs, func(n *yaml.Node, f string, _ int) {
				d.isps = append(d.isps, p.isp(n, f))
			})
		},
	})
	return d
}

func (p *parser) services(n *yaml.Node, field string) map[Role]int {
	counts := map[Role]int{}
	readers := map[string]fieldReader{}
	for _, role := range append(Roles(), RoleOCA) { // Validate says why not oca
		readers[string(role)] = func(n *yaml.Node, f string) {
			if n.Kind != yaml.ScalarNode || n.Tag != "!!int" {
				p.number(n, f, 0, MaxInstances)
				return
			}
			if v, ok := p.number(n, f, -1<<31, 1<<31-1); ok {
				counts[role] = int(v)
			}
		}
	}
	p.fields(n, field, readers)
	if len(counts) == 0 {
		return nil
	}
	return counts
}

func (p *parser) exchange(n *yaml.Node, field string) (x Exchange, given bool) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		p.lines[field+".name"] = n.Line
		return Exchange{Name: n.Value}, false
	}
	p.fields(n, field, map[string]fieldReader{
		"name": func(n *yaml.Node, f string) { x.Name = p.str(n, f, "us-east-ix") },
		"appliances": func(n *yaml.Node, f string) {
			given = true
			x.Appliances = p.appliances(n, f, exchangeAppliance())
		},
		"router": func(n *yaml.Node, f string) { x.Router = p.router(n, f) },
	})
	return x, given
}

func (p *parser) isp(n *yaml.Node, field string) ispDraft {
	var d ispDraft
	if n.Kind == yaml.ScalarNode {
		d.Name = p.str(n, field, "us-east-isp-1")
		p.lines[field+".name"] = n.Line
		return d
	}
	p.fields(n, field, map[string]fieldReader{
		"name":    func(n *yaml.Node, f string) { d.Name = p.str(n, f, "us-east-isp-1") },
		"country": func(n *yaml.Node, f string) { d.Country = p.str(n, f, "US") },
		"asn": func(n *yaml.Node, f string) {
			v, _ := p.number(n, f, 1, 1<<32-1)
			d.ASN = uint32(v)
		},
		"prefixes": func(n *yaml.Node, f string) {
			d.prefixesGiven = true
			p.list(n, f, "a list of prefixes, e.g. [198.18.0.0/20]", MaxPrefixes, func(n *yaml.Node, f string, _ int) {
				var prefix netip.Prefix
				p.text(n, f, "198.18.0.0/20", func(b []byte) (err error) {
					if prefix, err = netip.ParsePrefix(string(b)); err != nil {
						return fmt.Errorf("%q is not a prefix: write it like 198.18.0.0/20 or 2001:db8:1::/48", b)
					}
					return nil
				})
				d.Prefixes = append(d.Prefixes, prefix)
			})
		},
		"appliances": func(n *yaml.Node, f string) {
			d.appliancesGiven = true
			d.Appliances = p.appliances(n, f, ispAppliance())
		},
		"router": func(n *yaml.Node, f string) { d.Router = p.router(n, f) },
	})
	return d
}

// appliances reads a list, or a number of default ones.
func (p *parser) appliances(n *yaml.Node, field string, def Appliance) []Appliance {
	var out []Appliance
	if isCount(n) {
		count, _ := p.number(n, field, 0, MaxAppliances)
		for range count {
			out = append(out, def)
		}
		return out
	}
	p.list(n, field, "a number, or a list of appliances", MaxAppliances, func(n *yaml.Node, f string, _ int) {
		a := def
		p.fields(n, f, map[string]fieldReader{
			"capacity":       func(n *yaml.Node, f string) { p.text(n, f, "4GiB", a.Capacity.UnmarshalText) },
			"bandwidth":      func(n *yaml.Node, f string) { p.text(n, f, "10Gbit", a.Bandwidth.UnmarshalText) },
			"fill_bandwidth": func(n *yaml.Node, f string) { p.text(n, f, "1Gbit", a.FillBandwidth.UnmarshalText) },
		})
		out = append(out, a)
	})
	return out
}

func (p *parser) link(n *yaml.Node, field string) Link {
	var l Link
	seen := p.fields(n, field, map[string]fieldReader{
		"between": func(n *yaml.Node, f string) {
			var ends []string
			p.list(n, f, "the names of two regions, e.g. [us-east, eu-west]", 2, func(n *yaml.Node, f string, _ int) {
				ends = append(ends, p.str(n, f, "us-east"))
			})
			if n.Kind == yaml.SequenceNode && len(n.Content) < 2 {
				p.fail(n, f, "does not name two regions", "write e.g. [us-east, eu-west]")
			}
			copy(l.Between[:], ends)
		},
		"rtt":       func(n *yaml.Node, f string) { p.text(n, f, "62ms", l.RTT.UnmarshalText) },
		"bandwidth": func(n *yaml.Node, f string) { p.text(n, f, "100Mbit", l.Bandwidth.UnmarshalText) },
	})
	if n.Kind == yaml.MappingNode {
		for _, f := range []struct{ name, example string }{{"between", "between: [us-east, eu-west]"}, {"rtt", "rtt: 62ms"}} {
			if !seen[f.name] {
				p.add(n.Line, field+"."+f.name, "", "is missing", "write "+f.example)
			}
		}
	}
	return l
}
