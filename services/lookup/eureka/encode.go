package eureka

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The encoders append, and are written by hand: a registry of ten thousand
// instances writes a record for each of them again and again, and reflection
// takes ten times as long. Both forms have the members of the original's
// records in its order.

// AppendRecords appends the document of a registry or a delta whose instances
// are given one after the other, sorted by application.
func AppendRecords(b []byte, version, hash string, list []*Instance, f Form) []byte {
	if f.XML {
		b = xmlHead(b, version, hash, f.Compact)
		for n, i := range list {
			if n == 0 || list[n-1].App != i.App {
				b = element(append(b, "<application>"...), "name", i.App)
			}
			b = AppendInstance(b, i, f)
			if n == len(list)-1 || list[n+1].App != i.App {
				b = append(b, "</application>"...)
			}
		}
		return xmlTail(b, version, hash, f.Compact)
	}
	b = jsonHead(b, version, hash, f.Compact)
	for n, i := range list {
		first := n == 0 || list[n-1].App != i.App
		switch {
		case first && n > 0:
			b = append(b, `]},{"name":`...)
		case first:
			b = append(b, `{"name":`...)
		default:
			b = append(b, ',')
		}
		if first {
			b = append(quoted(b, i.App), `,"instance":[`...)
		}
		b = AppendInstance(b, i, f)
	}
	if len(list) > 0 {
		b = append(b, `]}`...)
	}
	return jsonTail(b, version, hash, f.Compact)
}

// AppendRecord appends the document of one application whose instances are
// given one after the other.
func AppendRecord(b []byte, name string, list []*Instance, f Form) []byte {
	if f.XML {
		b = element(append(b, "<application>"...), "name", name)
		for _, i := range list {
			b = AppendInstance(b, i, f)
		}
		return append(b, "</application>"...)
	}
	b = append(b, `{"application":{"name":`...)
	b = append(quoted(b, name), `,"instance":[`...)
	for n, i := range list {
		if n > 0 {
			b = append(b, ',')
		}
		b = AppendInstance(b, i, f)
	}
	return append(b, `]}}`...)
}

// AppendDocument appends the document of one instance.
func AppendDocument(b []byte, i *Instance, f Form) []byte {
	if f.XML {
		return AppendInstance(b, i, f)
	}
	b = append(b, `{"instance":`...)
	b = AppendInstance(b, i, f)
	return append(b, '}')
}

// AppendInstance appends the record of an instance as it stands in a list: a
// JSON object, or an element "instance".
func AppendInstance(b []byte, i *Instance, f Form) []byte {
	switch {
	case f.XML && f.Compact:
		return xmlCompact(b, i)
	case f.XML:
		return xmlInstance(b, i)
	case f.Compact:
		return jsonCompact(b, i)
	}
	return jsonInstance(b, i)
}

// class is the Java class of a data centre, by its name: the original's
// decoders load the class they are told, so that a client's word is not taken.
func (d DataCenter) class() string {
	if d.Name == Amazon {
		return ClassAmazon
	}
	return ClassMyOwn
}

func jsonInstance(b []byte, i *Instance) []byte {
	b = append(b, `{"instanceId":`...)
	b = quoted(b, i.InstanceID)
	b = member(b, "hostName", i.HostName)
	b = member(b, "app", i.App)
	b = member(b, "ipAddr", i.IPAddr)
	b = member(b, "status", i.Status)
	b = member(b, "overriddenStatus", i.OverriddenStatus)
	b = jsonPort(append(b, `,"port":`...), i.Port)
	b = jsonPort(append(b, `,"securePort":`...), i.SecurePort)
	b = append(b, `,"countryId":`...)
	b = strconv.AppendInt(b, int64(i.CountryID), 10)
	b = append(b, `,"dataCenterInfo":{"@class":"`...)
	b = append(b, i.DataCenter.class()...)
	b = append(b, `","name":`...)
	b = quoted(b, i.DataCenter.Name)
	if len(i.DataCenter.Metadata) > 0 {
		b = append(b, `,"metadata":`...)
		b = i.DataCenter.Metadata.appendJSON(b)
	}
	b = append(b, '}')
	if l := i.Lease; l != nil {
		b = append(b, `,"leaseInfo":{"renewalIntervalInSecs":`...)
		b = strconv.AppendInt(b, int64(l.RenewalSecs), 10)
		b = integer(b, "durationInSecs", l.DurationSecs)
		b = integer(b, "registrationTimestamp", l.Registered)
		b = integer(b, "lastRenewalTimestamp", l.LastRenewal)
		b = integer(b, "evictionTimestamp", l.Evicted)
		b = integer(b, "serviceUpTimestamp", l.ServiceUp)
		b = append(b, '}')
	}
	b = append(b, `,"metadata":`...)
	b = i.Metadata.appendJSON(b)
	b = optional(b, "appGroupName", i.AppGroup)
	b = optional(b, "homePageUrl", i.HomePageURL)
	b = optional(b, "statusPageUrl", i.StatusPageURL)
	b = optional(b, "healthCheckUrl", i.HealthCheckURL)
	b = optional(b, "secureHealthCheckUrl", i.SecureHealthURL)
	b = optional(b, "vipAddress", i.VIP)
	b = optional(b, "secureVipAddress", i.SecureVIP)
	b = append(b, `,"isCoordinatingDiscoveryServer":"`...)
	b = append(strconv.AppendBool(b, bool(i.Coordinating)), '"')
	b = append(b, `,"lastUpdatedTimestamp":"`...)
	b = append(strconv.AppendInt(b, int64(i.LastUpdated), 10), '"')
	b = append(b, `,"lastDirtyTimestamp":"`...)
	b = append(strconv.AppendInt(b, int64(i.LastDirty), 10), '"')
	b = optional(b, "actionType", i.Action)
	b = optional(b, "asgName", i.ASGName)
	return append(b, '}')
}

func jsonPort(b []byte, p Port) []byte {
	b = append(b, `{"$":`...)
	b = strconv.AppendInt(b, int64(p.Number), 10)
	b = append(b, `,"@enabled":"`...)
	return append(strconv.AppendBool(b, bool(p.Enabled)), `"}`...)
}

func integer(b []byte, name string, n Num) []byte {
	b = append(append(append(b, ',', '"'), name...), `":`...)
	return strconv.AppendInt(b, int64(n), 10)
}

func member(b []byte, name, value string) []byte {
	b = append(append(append(b, ',', '"'), name...), `":`...)
	return quoted(b, value)
}

func optional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return member(b, name, value)
}

// appendJSON writes an empty map the way the original does.
func (m Metadata) appendJSON(b []byte) []byte {
	if len(m) == 0 {
		return append(b, `{"@class":"java.util.Collections$EmptyMap"}`...)
	}
	b = append(b, '{')
	for n, k := range slices.Sorted(maps.Keys(m)) {
		if n > 0 {
			b = append(b, ',')
		}
		b = quoted(b, k)
		b = append(b, ':')
		b = quoted(b, m[k])
	}
	return append(b, '}')
}

// quoted appends s as a JSON string. Nearly all are plain.
func quoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			q, err := json.Marshal(s)
			if err != nil { // a string has no way to fail
				return append(b, `""`...)
			}
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
