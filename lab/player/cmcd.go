package player

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
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
	put := func(name string, pairs ...string) {
		var kept []string
		for _, p := range pairs {
			if p != "" {
				kept = append(kept, p)
			}
		}
		if len(kept) > 0 {
			h.Set(name, strings.Join(kept, ","))
		}
	}
	number := func(key string, v int) string {
		if v <= 0 {
			return ""
		}
		return key + "=" + strconv.Itoa(v)
	}
	flag := func(key string, v bool) string {
		if !v {
			return ""
		}
		return key
	}
	hundreds := func(v float64) int { return int(v/100+0.5) * 100 }
	speed, rate := max(c.speed, 0), ""
	if speed == 0 {
		speed = 1
	}
	if speed != 1 {
		rate = fmt.Sprintf("pr=%.2f", speed)
	}
	following := ""
	if c.following != "" {
		following = fmt.Sprintf("nrr=%q", c.following)
	}
	deadline := 0
	if c.duration > 0 {
		deadline = hundreds(float64(c.buffer.Milliseconds()) / speed)
	}
	// The keys of each header go in alphabetical order.
	put("CMCD-Object", number("br", c.kbps), number("d", int(c.duration.Milliseconds())), "ot="+c.object, number("tb", c.topKbps))
	put("CMCD-Request", number("bl", hundreds(float64(c.buffer.Milliseconds()))), number("dl", deadline), number("mtp", hundreds(c.throughput)), following, flag("su", c.startup))
	put("CMCD-Session", fmt.Sprintf("cid=%q", c.title), rate, "sf=o", fmt.Sprintf("sid=%q", c.session), "st=v")
	put("CMCD-Status", flag("bs", c.starved), number("rtp", hundreds(enough*float64(c.kbps)*speed)))
}
