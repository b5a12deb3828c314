package eureka

import (
	"bytes"
	"encoding/xml"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

func xmlInstance(b []byte, i *Instance) []byte {
	b = append(b, "<instance>"...)
	b = element(b, "instanceId", i.InstanceID)
	b = element(b, "hostName", i.HostName)
	b = element(b, "app", i.App)
	b = element(b, "ipAddr", i.IPAddr)
	b = element(b, "status", i.Status)
	b = element(b, "overriddenstatus", i.OverriddenStatus) // in lower case, unlike the JSON
	b = xmlPort(b, "port", i.Port)
	b = xmlPort(b, "securePort", i.SecurePort)
	b = xmlInteger(b, "countryId", int64(i.CountryID))
	b = append(b, `<dataCenterInfo class="`...)
	b = append(b, i.DataCenter.class()...)
	b = append(b, `">`...)
	b = element(b, "name", i.DataCenter.Name)
	if len(i.DataCenter.Metadata) > 0 {
		b = i.DataCenter.Metadata.appendXML(b)
	}
	b = append(b, "</dataCenterInfo>"...)
	if l := i.Lease; l != nil {
		b = append(b, "<leaseInfo>"...)
		b = xmlInteger(b, "renewalIntervalInSecs", int64(l.RenewalSecs))
		b = xmlInteger(b, "durationInSecs", int64(l.DurationSecs))
		b = xmlInteger(b, "registrationTimestamp", int64(l.Registered))
		b = xmlInteger(b, "lastRenewalTimestamp", int64(l.LastRenewal))
		b = xmlInteger(b, "evictionTimestamp", int64(l.Evicted))
		b = xmlInteger(b, "serviceUpTimestamp", int64(l.ServiceUp))
		b = append(b, "</leaseInfo>"...)
	}
	b = i.Metadata.appendXML(b)
	b = optionalElement(b, "appGroupName", i.AppGroup)
	b = optionalElement(b, "homePageUrl", i.HomePageURL)
	b = optionalElement(b, "statusPageUrl", i.StatusPageURL)
	b = optionalElement(b, "healthCheckUrl", i.HealthCheckURL)
	b = optionalElement(b, "secureHealthCheckUrl", i.SecureHealthURL)
	b = optionalElement(b, "vipAddress", i.VIP)
	b = optionalElement(b, "secureVipAddress", i.SecureVIP)
	b = element(b, "isCoordinatingDiscoveryServer", strconv.FormatBool(bool(i.Coordinating)))
	b = xmlInteger(b, "lastUpdatedTimestamp", int64(i.LastUpdated))
	b = xmlInteger(b, "lastDirtyTimestamp", int64(i.LastDirty))
	b = optionalElement(b, "actionType", i.Action)
	b = optionalElement(b, "asgName", i.ASGName)
	return append(b, "</instance>"...)
}

func xmlPort(b []byte, name string, p Port) []byte {
	b = append(append(b, '<'), name...)
	b = append(b, ` enabled="`...)
	b = strconv.AppendBool(b, bool(p.Enabled))
	b = append(b, `">`...)
	b = strconv.AppendInt(b, int64(p.Number), 10)
	return end(b, name)
}

func xmlInteger(b []byte, name string, n int64) []byte {
	b = append(append(append(b, '<'), name...), '>')
	return end(strconv.AppendInt(b, n, 10), name)
}

func element(b []byte, name, value string) []byte {
	b = append(append(append(b, '<'), name...), '>')
	return end(text(b, value), name)
}

func optionalElement(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return element(b, name, value)
}

func end(b []byte, name string) []byte {
	return append(append(append(b, '<', '/'), name...), '>')
}

// appendXML writes each key as an element, and an empty map the way the
// original does.
func (m Metadata) appendXML(b []byte) []byte {
	if len(m) == 0 {
		return append(b, `<metadata class="java.util.Collections$EmptyMap"></metadata>`...)
	}
	b = append(b, "<metadata>"...)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = element(b, escapeName(k), m[k])
	}
	return append(b, "</metadata>"...)
}

// text appends s as character data. What XML cannot hold becomes U+FFFD.
func text(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '<' || c == '>' || c == '&' || c == '"' || c == '\'' || c >= utf8.RuneSelf {
			var out bytes.Buffer
			if err := xml.EscapeText(&out, []byte(s)); err != nil { // a buffer takes every write
				return b
			}
			return append(b, out.Bytes()...)
		}
	}
	return append(b, s...)
}

// AppendMap appends an element that holds each value in an element of its key.
func AppendMap(b []byte, name string, m map[string]string) []byte {
	b = append(append(append(b, '<'), name...), '>')
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = element(b, escapeName(k), m[k])
	}
	return end(b, name)
}
