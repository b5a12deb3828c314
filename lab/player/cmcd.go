package player

import (
	"net/http"
	"strconv"
	"time"
)

// cmcd is what a request tells an appliance about the player (CTA-5004, Common
// Media Client Data), as request headers. Zero values are left out.
type cmcd struct {
	session, title string
	// object is "m" (manifest or index), "i" (init), "v" or "a".
	object string
	// kbps and duration of the segment; topKbps of the best rung on offer.
	kbps, topKbps int
	duration      time.Duration
	// buffer is the media ahead; starved says that it ran dry since the last
	// request, startup that playback cannot go on without this object.
	buffer           time.Duration
	starved, startup bool
	// throughput measured, kbit/s.
	throughput float64
	speed      float64
	// following is the byte range of the same file that will likely be asked for
	// next, e.g. "1000-1999".
	following string
}

// enough times the bit rate played is what an appliance need not exceed, as
// dash.js asks for.
const enough = 5

func (c cmcd) set(h http.Header) {
	var room [192]byte
	p := pairs{b: room[:0]}
	speed := max(c.speed, 0)
	if speed == 0 {
		speed = 1
	}
	buffer := float64(c.buffer.Milliseconds())
	// The keys of each header go in alphabetical order.
	p.number("br", c.kbps)
	p.number("d", int(c.duration.Milliseconds()))
	p.word("ot", c.object)
	p.number("tb", c.topKbps)
	p.set(h, "Cmcd-Object")

	p.number("bl", hundreds(buffer))
	if c.duration > 0 {
		p.number("dl", hundreds(buffer/speed))
	}
	p.number("mtp", hundreds(c.throughput))
	if c.following != "" {
		p.text("nrr", c.following)
	}
	p.flag("su", c.startup)
	p.set(h, "Cmcd-Request")

	p.text("cid", c.title)
	if speed != 1 {
		p.key("pr")
		p.b = strconv.AppendFloat(append(p.b, '='), speed, 'f', 2, 64)
	}
	p.word("sf", "o")
	p.text("sid", c.session)
	p.word("st", "v")
	p.set(h, "Cmcd-Session")

	p.flag("bs", c.starved)
	p.number("rtp", hundreds(enough*float64(c.kbps)*speed))
	p.set(h, "Cmcd-Status")
}

// hundreds rounds to them.
func hundreds(v float64) int { return int(v/100+0.5) * 100 }

// pairs are the keys and values of a header under way.
type pairs struct{ b []byte }

func (p *pairs) key(key string) {
	if len(p.b) > 0 {
		p.b = append(p.b, ',')
	}
	p.b = append(p.b, key...)
}

// number adds one above 0.
func (p *pairs) number(key string, v int) {
	if v > 0 {
		p.key(key)
		p.b = strconv.AppendInt(append(p.b, '='), int64(v), 10)
	}
}

func (p *pairs) word(key, v string) {
	p.key(key)
	p.b = append(append(p.b, '='), v...)
}

func (p *pairs) text(key, v string) {
	p.key(key)
	p.b = strconv.AppendQuote(append(p.b, '='), v)
}

func (p *pairs) flag(key string, v bool) {
	if v {
		p.key(key)
	}
}

// set makes a header of what there is, if anything, and begins the next.
func (p *pairs) set(h http.Header, name string) {
	if len(p.b) > 0 {
		h.Set(name, string(p.b))
		p.b = p.b[:0]
	}
}
