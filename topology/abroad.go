package topology

import (
	"encoding/binary"
	"net/netip"
)

// Networks that no ISP of a lab announces still stand in some country. They
// come from this block: one /27 for each two-letter code, in alphabetic order.
// A topology that declares an ISP inside the block takes precedence.
var abroad = netip.MustParsePrefix("198.19.128.0/17")

const (
	letters     = 26
	abroadHosts = 32
)

// AbroadAddr returns the k-th client address of a country that no ISP of the
// lab serves; ok is false for what is not a two-letter code.
func AbroadAddr(country string, k uint64) (addr netip.Addr, ok bool) {
	if len(country) != 2 || country[0] < 'A' || country[0] > 'Z' || country[1] < 'A' || country[1] > 'Z' {
		return netip.Addr{}, false
	}
	index := uint32(country[0]-'A')*letters + uint32(country[1]-'A')
	base := binary.BigEndian.Uint32(abroad.Addr().AsSlice())
	host := uint32(1 + k%(abroadHosts-2))
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], base+index*abroadHosts+host)
	return netip.AddrFrom4(b), true
}

// IsCountry says whether a text has the form of a country's code (ISO 3166-1
// alpha-2).
func IsCountry(code string) bool { return countryCode.MatchString(code) }

// CountryOf returns the country a client address is in: that of its ISP, or
// of its network abroad; "" when neither is known.
func (t Topology) CountryOf(addr netip.Addr) string {
	if isp, _, ok := t.Locate(addr); ok {
		return isp.Country
	}
	addr = addr.Unmap()
	if !addr.Is4() || !abroad.Contains(addr) {
		return ""
	}
	n := (binary.BigEndian.Uint32(addr.AsSlice()) - binary.BigEndian.Uint32(abroad.Addr().AsSlice())) / abroadHosts
	if n >= letters*letters {
		return ""
	}
	return string([]byte{byte('A' + n/letters), byte('A' + n%letters)})
}
