package eureka

// The short record of an instance (X-Eureka-Accept: compact) has its members in
// an order of its own, its time as a number in JSON, and of Amazon's metadata
// what a client needs to connect.

// compactKeys are the metadata that a short record keeps, in the original's
// order.
var compactKeys = [...]string{"instance-id", "public-ipv4", "availability-zone", "public-hostname", "local-ipv4"}

func jsonCompact(b []byte, i *Instance) []byte {
	b = append(b, `{"instanceId":`...)
	b = quoted(b, i.InstanceID)
	b = member(b, "app", i.App)
	b = member(b, "ipAddr", i.IPAddr)
	b = optional(b, "vipAddress", i.VIP)
	b = optional(b, "secureVipAddress", i.SecureVIP)
	b = append(b, `,"dataCenterInfo":{"@class":"`...)
	b = append(b, i.DataCenter.class()...)
	b = append(b, `","name":`...)
	b = quoted(b, i.DataCenter.Name)
	if len(i.DataCenter.Metadata) > 0 {
		b = append(b, `,"metadata":{`...)
		n := len(b)
		for _, k := range compactKeys {
			if v, ok := i.DataCenter.Metadata[k]; ok {
				if len(b) > n {
					b = append(b, ',')
				}
				b = quoted(append(quoted(b, k), ':'), v)
			}
		}
		b = append(b, '}')
	}
	b = append(b, '}')
	b = member(b, "hostName", i.HostName)
	b = member(b, "status", i.Status)
	b = integer(b, "lastUpdatedTimestamp", Num(i.LastUpdated))
	b = optional(b, "actionType", i.Action)
	b = optional(b, "asgName", i.ASGName)
	b = jsonPort(append(b, `,"port":`...), i.Port)
	b = jsonPort(append(b, `,"securePort":`...), i.SecurePort)
	return append(b, '}')
}

func xmlCompact(b []byte, i *Instance) []byte {
	b = append(b, "<instance>"...)
	b = element(b, "instanceId", i.InstanceID)
	b = element(b, "app", i.App)
	b = element(b, "ipAddr", i.IPAddr)
	b = optionalElement(b, "vipAddress", i.VIP)
	b = optionalElement(b, "secureVipAddress", i.SecureVIP)
	b = append(b, `<dataCenterInfo class="`...)
	b = append(b, i.DataCenter.class()...)
	b = append(b, `">`...)
	b = element(b, "name", i.DataCenter.Name)
	if len(i.DataCenter.Metadata) > 0 {
		b = append(b, "<metadata>"...)
		for _, k := range compactKeys {
			if v, ok := i.DataCenter.Metadata[k]; ok {
				b = element(b, k, v)
			}
		}
		b = append(b, "</metadata>"...)
	}
	b = append(b, "</dataCenterInfo>"...)
	b = element(b, "hostName", i.HostName)
	b = element(b, "status", i.Status)
	b = xmlInteger(b, "lastUpdatedTimestamp", int64(i.LastUpdated))
	b = optionalElement(b, "actionType", i.Action)
	b = optionalElement(b, "asgName", i.ASGName)
	b = xmlPort(b, "port", i.Port)
	b = xmlPort(b, "securePort", i.SecurePort)
	return append(b, "</instance>"...)
}

// jsonHead begins the document of a registry or a delta. The short form has
// version and hash behind the applications.
func jsonHead(b []byte, version, hash string, compact bool) []byte {
	b = append(b, `{"applications":{`...)
	if !compact {
		b = append(jsonState(b, version, hash), ',')
	}
	return append(b, `"application":[`...)
}

func jsonTail(b []byte, version, hash string, compact bool) []byte {
	b = append(b, ']')
	if compact {
		b = jsonState(append(b, ','), version, hash)
	}
	return append(b, `}}`...)
}

func jsonState(b []byte, version, hash string) []byte {
	b = quoted(append(b, `"versions__delta":`...), version)
	return quoted(append(b, `,"apps__hashcode":`...), hash)
}

// xmlHead and xmlTail are jsonHead and jsonTail in XML.
func xmlHead(b []byte, version, hash string, compact bool) []byte {
	b = append(b, "<applications>"...)
	if compact {
		return b
	}
	return xmlState(b, version, hash)
}

func xmlTail(b []byte, version, hash string, compact bool) []byte {
	if compact {
		b = xmlState(b, version, hash)
	}
	return append(b, "</applications>"...)
}

func xmlState(b []byte, version, hash string) []byte {
	return element(element(b, "versions__delta", version), "apps__hashcode", hash)
}
