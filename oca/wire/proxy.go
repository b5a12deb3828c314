package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"

	"github.com/flix-lab/flix/services"
)

const (
	proxyFixed = 16      // bytes of the fixed part
	maxProxy   = 2 << 10 // of addresses and further values
	proxyMagic = "\r\n\r\n\x00\r\nQUIT\n"
)

// readProxyHeader reads a PROXY protocol v2 header and not a byte more, so that
// the connection below stays one the kernel can send files on. A header of a
// local command keeps the peer's own address.
func readProxyHeader(c net.Conn) (netip.AddrPort, error) {
	head := make([]byte, proxyFixed)
	if _, err := io.ReadFull(c, head); err != nil {
		return netip.AddrPort{}, services.Wrap("read the PROXY header", err)
	}
	if string(head[:len(proxyMagic)]) != proxyMagic {
		return netip.AddrPort{}, services.Errorf(services.Invalid, "the peer did not send a PROXY protocol v2 header")
	}
	rest := int(binary.BigEndian.Uint16(head[14:]))
	if rest > maxProxy {
		return netip.AddrPort{}, services.Errorf(services.Invalid, "a PROXY header of %d bytes, want at most %d", rest, maxProxy)
	}
	head = append(head, make([]byte, rest)...)
	if _, err := io.ReadFull(c, head[proxyFixed:]); err != nil {
		return netip.AddrPort{}, services.Wrap("read the PROXY header", err)
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return netip.AddrPort{}, services.Wrap("read the PROXY header", err)
	}
	if h.Command.IsLocal() {
		return addrOf(c.RemoteAddr()), nil
	}
	return addrOf(h.SourceAddr), nil
}
