package bgp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// families are the routes that are spoken of.
var families = [...]packet.Family{packet.RF_IPv4_UC, packet.RF_IPv6_UC}

// fault is why a session ends: what the neighbour is told of it.
type fault struct {
	code, subcode uint8
	data          []byte
	why           string
}

func (f *fault) Error() string { return f.why }

func faultf(code, subcode uint8, format string, args ...any) *fault {
	return &fault{code: code, subcode: subcode, why: fmt.Sprintf(format, args...)}
}

// told is a NOTIFICATION that was received.
type told struct {
	code, subcode uint8
	note          string // what its operator wrote
}

// readTold reads the body of a NOTIFICATION. One of a shutdown or a reset may carry
// a text for people (RFC 9003): a length and UTF-8.
func readTold(body []byte) told {
	t := told{code: body[0], subcode: body[1]}
	shut := t.subcode == packet.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN || t.subcode == packet.BGP_ERROR_SUB_ADMINISTRATIVE_RESET
	if text := body[2:]; t.code == packet.BGP_ERROR_CEASE && shut && len(text) > 1 && int(text[0]) <= len(text)-1 {
		t.note = strings.ToValidUTF8(string(text[1:1+text[0]]), "\ufffd")
	}
	return t
}

func (t told) Error() string {
	why := "the neighbour ended the session: " + reasonText(t.code, t.subcode)
	if t.note != "" {
		why += fmt.Sprintf(": %q", t.note)
	}
	return why
}

// meant says whether the neighbour's operator has taken the session away on
// purpose: its routes are not to be used any more. After any other end it is
// expected back.
func (t told) meant() bool {
	switch t.subcode {
	case packet.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN, packet.BGP_ERROR_SUB_PEER_DECONFIGURED, packet.BGP_ERROR_SUB_HARD_RESET:
		return t.code == packet.BGP_ERROR_CEASE
	}
	return false
}

// reasonText names a NOTIFICATION's reason (RFC 4271 section 4.5, RFC 4486, RFC
// 8538, RFC 9384).
func reasonText(code, subcode uint8) string {
	names := map[uint8]string{1: "message header error", 2: "OPEN message error", 3: "UPDATE message error", 4: "hold timer expired", 5: "finite state machine error", 6: "cease", 7: "ROUTE-REFRESH error"}
	subs := map[[2]uint8]string{
		{2, 2}: "wrong AS number", {2, 3}: "bad identifier", {2, 6}: "unacceptable hold time", {6, 1}: "too many prefixes", {6, 2}: "shut down", {6, 3}: "neighbour removed",
		{6, 4}: "reset", {6, 5}: "connection rejected", {6, 6}: "another configuration", {6, 7}: "collision of two connections",
		{6, 8}: "out of resources", {6, 9}: "hard reset", {6, 10}: "the line is down (BFD)",
	}
	name := names[code]
	if name == "" {
		name = "an unknown reason"
	}
	if sub := subs[[2]uint8{code, subcode}]; sub != "" {
		name += ", " + sub
	}
	return fmt.Sprintf("%s (%d/%d)", name, code, subcode)
}

// marker begins every message.
var marker = bytes.Repeat([]byte{0xff}, 16)

// leastLength is the least length of a message, by its type.
var leastLength = map[uint8]int{packet.BGP_MSG_OPEN: 29, packet.BGP_MSG_UPDATE: 23, packet.BGP_MSG_NOTIFICATION: 21, packet.BGP_MSG_KEEPALIVE: 19}

// readMessage reads one message (RFC 4271 section 4.1): its type and its body.
func readMessage(r io.Reader) (kind uint8, body []byte, err error) {
	var head [packet.BGP_HEADER_LENGTH]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if !bytes.Equal(head[:16], marker) {
		return 0, nil, faultf(packet.BGP_ERROR_MESSAGE_HEADER_ERROR, packet.BGP_ERROR_SUB_CONNECTION_NOT_SYNCHRONIZED, "a message does not begin with the marker")
	}
	length, kind := int(binary.BigEndian.Uint16(head[16:18])), head[18]
	least, known := leastLength[kind]
	if !known {
		return 0, nil, &fault{packet.BGP_ERROR_MESSAGE_HEADER_ERROR, packet.BGP_ERROR_SUB_BAD_MESSAGE_TYPE, head[18:], fmt.Sprintf("a message of the unknown type %d", kind)}
	}
	if length < least || length > packet.BGP_MAX_MESSAGE_LENGTH || kind == packet.BGP_MSG_KEEPALIVE && length != least {
		return 0, nil, &fault{packet.BGP_ERROR_MESSAGE_HEADER_ERROR, packet.BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, head[16:18], fmt.Sprintf("a message of type %d has %d bytes", kind, length)}
	}
	body = make([]byte, length-len(head))
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, err
	}
	return kind, body, nil
}

// decode parses a message's body. The codec takes for granted that every error
// below it is one of its own kind; should one not be, or should it run off a
// malformed message in another way, then that ends this session and nothing else.
func decode(kind uint8, body []byte, options ...*packet.MarshallingOption) (m *packet.BGPMessage, err error) {
	defer func() {
		if r := recover(); r != nil {
			m, err = nil, faultf(packet.BGP_ERROR_UPDATE_MESSAGE_ERROR, packet.BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, "a message of type %d cannot be parsed: %v", kind, r)
		}
	}()
	return packet.ParseBGPBody(&packet.BGPHeader{Len: uint16(packet.BGP_HEADER_LENGTH + len(body)), Type: kind}, body, options...)
}

// faultOf makes the codec's error one to tell the neighbour.
func faultOf(err error) error {
	var m *packet.MessageError
	if errors.As(err, &m) {
		return &fault{m.TypeCode, m.SubTypeCode, m.Data, m.Message}
	}
	return err
}

// openMessage is the speaker's OPEN.
func openMessage(c *Config) (*packet.BGPMessage, error) {
	var caps []packet.ParameterCapabilityInterface
	var graceful []*packet.CapGracefulRestartTuple
	for _, f := range families {
		caps = append(caps, packet.NewCapMultiProtocol(f))
		graceful = append(graceful, packet.NewCapGracefulRestartTuple(f, false))
	}
	as := uint16(packet.AS_TRANS)
	if c.ASN < 1<<16 {
		as = uint16(c.ASN)
	}
	caps = append(caps, packet.NewCapFourOctetASNumber(c.ASN),
		packet.NewCapGracefulRestart(false, false, uint16(min(c.Stale/time.Second, 4095)), graceful))
	return packet.NewBGPOpenMessage(as, uint16(c.Hold/time.Second), c.ID, []packet.OptionParameterInterface{packet.NewOptionParameterCapability(caps)})
}

// neighbour is what an OPEN told.
type neighbour struct {
	id       netip.Addr
	hold     time.Duration // agreed; 0 is none
	fourByte bool          // it speaks of AS numbers in four octets
	marks    bool          // it sends End-of-RIB
	speaks   map[packet.Family]bool
}

// readOpen checks an OPEN (RFC 4271 section 6.2).
func readOpen(c *Config, body []byte) (neighbour, error) {
	n := neighbour{speaks: map[packet.Family]bool{}}
	m, err := decode(packet.BGP_MSG_OPEN, body)
	if err != nil {
		return n, faultOf(err)
	}
	o := m.Body.(*packet.BGPOpen)
	const code = packet.BGP_ERROR_OPEN_MESSAGE_ERROR
	if o.Version != 4 {
		return n, &fault{code, packet.BGP_ERROR_SUB_UNSUPPORTED_VERSION_NUMBER, []byte{0, 4}, fmt.Sprintf("the neighbour speaks version %d", o.Version)}
	}
	as, multi := uint32(o.MyAS), false
	for _, p := range o.OptParams {
		params, ok := p.(*packet.OptionParameterCapability)
		if !ok {
			return n, faultf(code, packet.BGP_ERROR_SUB_UNSUPPORTED_OPTIONAL_PARAMETER, "an unknown optional parameter")
		}
		for _, cap := range params.Capability {
			switch cap := cap.(type) {
			case *packet.CapFourOctetASNumber:
				as, n.fourByte = cap.CapValue, true
			case *packet.CapMultiProtocol:
				n.speaks[cap.CapValue], multi = true, true
			case *packet.CapGracefulRestart:
				n.marks = true
			}
		}
	}
	if !multi {
		n.speaks[packet.RF_IPv4_UC] = true // RFC 4760: what all speak
	}
	switch {
	case as != c.PeerASN:
		return n, faultf(code, packet.BGP_ERROR_SUB_BAD_PEER_AS, "the neighbour is of AS %d, not %d", as, c.PeerASN)
	case o.HoldTime == 1 || o.HoldTime == 2:
		return n, faultf(code, packet.BGP_ERROR_SUB_UNACCEPTABLE_HOLD_TIME, "a hold time of %d s is too short", o.HoldTime)
	case !o.ID.Is4() || o.ID.IsUnspecified():
		return n, faultf(code, packet.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER, "%v is no identifier", o.ID)
	}
	n.id, n.hold = o.ID, min(c.Hold.Truncate(time.Second), time.Duration(o.HoldTime)*time.Second)
	return n, nil
}
