// Package eureka is the wire of the registry: the resources of Eureka's REST
// API in their JSON and XML forms, as the registry writes and its clients
// read them.
//
// It holds values and codecs only: no transport, no lease, no clock. Reading
// is lenient where known clients differ (numbers or strings, one object or a
// list), writing is exact.
package eureka

import (
	"encoding/json"
	"encoding/xml"
	"slices"
	"strconv"
	"strings"
)

// The statuses of an instance. Only UP ones are given work.
const (
	StatusUp           = "UP"
	StatusDown         = "DOWN"
	StatusStarting     = "STARTING"
	StatusOutOfService = "OUT_OF_SERVICE"
	StatusUnknown      = "UNKNOWN"
)

// What a delta says about an instance.
const (
	ActionAdded    = "ADDED"
	ActionModified = "MODIFIED"
	ActionDeleted  = "DELETED"
)

// Classes of data centre that the original knows.
const (
	ClassMyOwn  = "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo"
	ClassAmazon = "com.netflix.appinfo.AmazonInfo"
)

// Amazon is the data centre whose instances are named in its metadata.
const Amazon = "Amazon"

// DataCenters are the names that the original's clients can read: one of them
// in an answer that they cannot read makes them drop the whole answer.
var DataCenters = []string{"Netflix", Amazon, "MyOwn"}

// ParseStatus returns the status in its canonical form, or UNKNOWN.
func ParseStatus(s string) string {
	switch u := strings.ToUpper(s); u {
	case StatusUp, StatusDown, StatusStarting, StatusOutOfService:
		return u
	}
	return StatusUnknown
}

// Instance is one registered instance.
type Instance struct {
	InstanceID       string     `json:"instanceId" xml:"instanceId"`
	HostName         string     `json:"hostName" xml:"hostName"`
	App              string     `json:"app" xml:"app"`
	AppGroup         string     `json:"appGroupName,omitempty" xml:"appGroupName,omitempty"`
	IPAddr           string     `json:"ipAddr" xml:"ipAddr"`
	Status           string     `json:"status" xml:"status"`
	OverriddenStatus string     `json:"overriddenStatus" xml:"overriddenstatus"`
	Port             Port       `json:"port" xml:"port"`
	SecurePort       Port       `json:"securePort" xml:"securePort"`
	CountryID        Num        `json:"countryId" xml:"countryId"`
	DataCenter       DataCenter `json:"dataCenterInfo" xml:"dataCenterInfo"`
	Lease            *Lease     `json:"leaseInfo,omitempty" xml:"leaseInfo,omitempty"`
	Metadata         Metadata   `json:"metadata" xml:"metadata"`
	HomePageURL      string     `json:"homePageUrl,omitempty" xml:"homePageUrl,omitempty"`
	StatusPageURL    string     `json:"statusPageUrl,omitempty" xml:"statusPageUrl,omitempty"`
	HealthCheckURL   string     `json:"healthCheckUrl,omitempty" xml:"healthCheckUrl,omitempty"`
	SecureHealthURL  string     `json:"secureHealthCheckUrl,omitempty" xml:"secureHealthCheckUrl,omitempty"`
	VIP              string     `json:"vipAddress,omitempty" xml:"vipAddress,omitempty"`
	SecureVIP        string     `json:"secureVipAddress,omitempty" xml:"secureVipAddress,omitempty"`
	ASGName          string     `json:"asgName,omitempty" xml:"asgName,omitempty"`
	Coordinating     Bool       `json:"isCoordinatingDiscoveryServer" xml:"isCoordinatingDiscoveryServer"`
	LastUpdated      Millis     `json:"lastUpdatedTimestamp" xml:"lastUpdatedTimestamp"`
	LastDirty        Millis     `json:"lastDirtyTimestamp" xml:"lastDirtyTimestamp"`
	Action           string     `json:"actionType,omitempty" xml:"actionType,omitempty"`
}

// HasVIP reports whether the instance is in the VIP; vipAddress may list
// several, separated by commas, and case does not matter.
func (i *Instance) HasVIP(vip string) bool { return listed(i.VIP, vip) }

// HasSecureVIP is HasVIP for secureVipAddress.
func (i *Instance) HasSecureVIP(vip string) bool { return listed(i.SecureVIP, vip) }

func listed(list, name string) bool {
	for v := range strings.SplitSeq(list, ",") {
		if v = strings.TrimSpace(v); v != "" && strings.EqualFold(v, name) {
			return true
		}
	}
	return false
}

// Port is a port and whether it is in use.
type Port struct {
	Number  Num  `json:"$" xml:",chardata"`
	Enabled Bool `json:"@enabled" xml:"enabled,attr"`
}

// UnmarshalJSON reads the original's object, or a bare number as some scripts
// write it, which is a port in use.
func (p *Port) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		type plain Port
		return json.Unmarshal(b, (*plain)(p))
	}
	if string(b) == "null" {
		return nil
	}
	if err := p.Number.UnmarshalJSON(b); err != nil {
		return err
	}
	p.Enabled = p.Number > 0
	return nil
}

// UnmarshalXML implements xml.Unmarshaler.
func (p *Port) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	type plain Port
	return inElement(start, d.DecodeElement((*plain)(p), &start))
}

// MarshalJSON writes a record as it stands in a list.
func (i *Instance) MarshalJSON() ([]byte, error) { return AppendInstance(nil, i, Form{}), nil }

// DataCenter says what kind of data centre the instance is in.
type DataCenter struct {
	Class    string   `json:"@class" xml:"class,attr,omitempty"`
	Name     string   `json:"name" xml:"name"`
	Metadata Metadata `json:"metadata,omitempty" xml:"metadata,omitempty"`
}

// Known says whether the original's clients can read the data centre's name.
func (d DataCenter) Known() bool { return slices.Contains(DataCenters, d.Name) }

// Lease is what the registry knows of an instance's lease. Intervals are in
// seconds, timestamps in milliseconds since 1970.
type Lease struct {
	RenewalSecs  Num `json:"renewalIntervalInSecs" xml:"renewalIntervalInSecs"`
	DurationSecs Num `json:"durationInSecs" xml:"durationInSecs"`
	Registered   Num `json:"registrationTimestamp" xml:"registrationTimestamp"`
	LastRenewal  Num `json:"lastRenewalTimestamp" xml:"lastRenewalTimestamp"`
	Evicted      Num `json:"evictionTimestamp" xml:"evictionTimestamp"`
	ServiceUp    Num `json:"serviceUpTimestamp" xml:"serviceUpTimestamp"`
}

// Application is every instance of one application.
type Application struct {
	Name      string    `json:"name" xml:"name"`
	Instances Instances `json:"instance" xml:"instance"`
}

// Applications is the registry, or the changes of late.
type Applications struct {
	Version  string `json:"versions__delta" xml:"versions__delta"`
	Hash     string `json:"apps__hashcode" xml:"apps__hashcode"`
	Regional Apps   `json:"application" xml:"application"`
}

// Hash is the registry's consistency hash: each status with the number of
// instances in it, sorted by status, "STATUS_count_".
func Hash(counts map[string]int) string {
	names := make([]string, 0, len(counts))
	for s, n := range counts {
		if n > 0 {
			names = append(names, s)
		}
	}
	slices.Sort(names)
	var b strings.Builder
	for _, s := range names {
		b.WriteString(s)
		b.WriteByte('_')
		b.WriteString(strconv.Itoa(counts[s]))
		b.WriteByte('_')
	}
	return b.String()
}
