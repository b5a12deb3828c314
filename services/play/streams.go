package play

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/token"
)

// finished is the share of a title after which a play begins at the start
// again: what is left is credits.
const finished = 0.95

// resume is where a play begins, in seconds, for a bookmark.
func resume(position float64, durationMS uint64) float64 {
	if position < 0 || position*1000 >= finished*float64(durationMS) {
		return 0
	}
	return position
}

// streams are the tracks that the plan allows: all audio, and every video no
// taller than maxHeight. A title whose lowest rung is taller still keeps that
// rung: the plan allows the title, so something of it must play.
func streams(profiles []*playbackpb.Profile, maxHeight int) []Stream {
	var out []Stream
	var lowest *playbackpb.Profile
	videos := 0
	for _, p := range profiles {
		if p.GetKind() == "video" {
			if lowest == nil || p.GetHeight() < lowest.GetHeight() || p.GetHeight() == lowest.GetHeight() && p.GetKbps() < lowest.GetKbps() {
				lowest = p
			}
			if int(p.GetHeight()) > maxHeight {
				continue
			}
			videos++
		}
		out = append(out, stream(p))
	}
	if videos == 0 && lowest != nil {
		out = append([]Stream{stream(lowest)}, out...)
	}
	return out
}

func stream(p *playbackpb.Profile) Stream {
	return Stream{ID: p.GetId(), Kind: p.GetKind(), Path: p.GetPath(), Kbps: int(p.GetKbps()), Width: int(p.GetWidth()), Height: int(p.GetHeight()), Codecs: p.GetCodecs()}
}

// appliances signs the candidates' URLs. One token serves all ten: it names
// title, client and session, and each appliance checks it for itself.
func (s *Server) appliances(p play, version uint64, trace string, candidates []*steeringpb.Candidate) []Appliance {
	signed := s.d.Key.Sign(token.URL, token.Claims{Title: p.title, Client: p.ClientIP, Session: p.session, Trace: trace}, time.Now(), s.d.Timing.URLExpiry.D())
	path := "/" + signed + "/t/" + url.PathEscape(p.title) + "/" + strconv.FormatUint(version, 10) + "/"
	out := make([]Appliance, 0, maxAppliances)
	for _, c := range candidates[:min(len(candidates), maxAppliances)] {
		a := Appliance{Name: c.GetAppliance(), Site: c.GetSite(), Kind: c.GetKind(), URL: strings.TrimSuffix(c.GetUrl(), "/") + path, Rank: int(c.GetRank()), Pathway: pathway(c.GetAppliance())}
		if c.GetPlainUrl() != "" {
			a.PlainURL = strings.TrimSuffix(c.GetPlainUrl(), "/") + path
		}
		out = append(out, a)
	}
	return out
}
