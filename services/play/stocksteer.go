package play

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/steering/steeringpb"
)

// SteeringManifest is what a content steering server answers (ETSI TS 103 998,
// 6; draft-pantos-hls-rfc8216bis, 7.1). It has no RELOAD-URI, which is optional:
// the next request goes where this one went, and only the player knows where
// that is, for the API lies behind a balancer and perhaps a proxy. (A relative
// one would do by both standards, but Shaka Player does not resolve it.)
type SteeringManifest struct {
	Version int `json:"VERSION"`
	// TTL in seconds. It is shorter while the order is likely to change: when an
	// appliance is unhealthy or about to shed, so that players come back soon.
	TTL      int      `json:"TTL"`
	Priority []string `json:"PATHWAY-PRIORITY"`
	// Clones are the pathways of Priority that the player's manifest has not got:
	// appliances that have come into reach since it was made.
	Clones []PathwayClone `json:"PATHWAY-CLONES,omitempty"`
}

// PathwayClone makes a pathway of another one.
type PathwayClone struct {
	BaseID      string         `json:"BASE-ID"`
	ID          string         `json:"ID"`
	Replacement URIReplacement `json:"URI-REPLACEMENT"`
}

// URIReplacement says what is other in the URIs of a clone. An appliance's
// paths, the signature in them included, are those of any other.
type URIReplacement struct {
	// Host is a name or address with its port; for DASH with the scheme, as its
	// players take it for the beginning of a URL (ETSI TS 103 998, 6.4), for HLS
	// without (draft-pantos-hls-rfc8216bis, 7.2).
	Host string `json:"HOST"`
}

// Formats of manifest.
const (
	formatDASH = "dash"
	formatHLS  = "hls"
)

// unsettledTTL is by how much the time to the next question is shorter while
// the order is likely to change.
const unsettledTTL = 4

// steerParams are what a manifest tells the steering server of itself.
func steerParams() []edge.Param {
	most := (maxID + 1) * maxAppliances
	return []edge.Param{
		hostsParam(),
		{Name: "format", In: "query", Doc: "of the manifest that is steered: decides how clones name a host", Schema: edge.Schema{Type: "string", Enum: []string{formatDASH, formatHLS}}},
		{Name: "pathways", In: "query", Doc: "those that the manifest has, with commas; others come as clones", Schema: edge.Schema{Type: "string", MaxLength: &most, Pattern: `^[A-Za-z0-9._,-]*$`}},
	}
}

// waitParam lets a question wait for its answer.
func waitParam(doc string) edge.Param {
	least, most := 0.0, float64(maxWait)
	return edge.Param{Name: "wait", In: "query", Doc: doc, Schema: edge.Schema{Type: "integer", Minimum: &least, Maximum: &most}}
}

// steeringFile is the steering server's URL in a manifest. It carries what the
// manifest has: the server keeps nothing of a play.
func steeringFile(format string, t steered) string {
	var ids []string
	for _, p := range t.steering.Pathways {
		ids = append(ids, p.ID)
	}
	file := fileSteering + "?format=" + format + "&hosts=" + t.hosts + "&pathways=" + strings.Join(ids, ",")
	if t.wait != "" {
		file += "&wait=" + t.wait
	}
	return file
}

// steer answers with the order of the appliances now. What the player says it
// uses stays first among its equals: to move between appliances that are
// equally near gains nothing.
func (s *Server) steer(r *http.Request) (any, error) {
	p, rank, err := s.order(r)
	if err != nil {
		return nil, err
	}
	s.stock.served.WithLabelValues(fileSteering, strconv.FormatBool(s.moves(r, rank))).Inc()
	return s.wait(r, p, rank)
}

// order is the play that a question is about, with the order of its appliances.
func (s *Server) order(r *http.Request) (p play, rank *steeringpb.RankReply, err error) {
	if p, _, err = s.follower(r); err != nil {
		return p, nil, err
	}
	rank, _, err = s.getRank(r.Context(), p)
	return p, rank, err
}

// moves says whether a player has to leave the way that it uses, if it said which.
func (s *Server) moves(r *http.Request, rank *steeringpb.RankReply) bool {
	now := current(r.URL.Query())
	order := prefer(rank.GetCandidates(), now)
	return now != "" && len(order) > 0 && order[0] != now
}

// manifest is the order for whoever asked; soon says that it may ask again at
// once.
func (s *Server) manifest(r *http.Request, rank *steeringpb.RankReply, soon bool) SteeringManifest {
	ttl := s.d.Timing.SteeringTTL.D()
	if rank.GetUnsettled() {
		ttl /= unsettledTTL
	}
	seconds := max(1, int(ttl/time.Second))
	if soon {
		seconds = heldTTL
	}
	return SteeringManifest{Version: 1, TTL: seconds, Priority: prefer(rank.GetCandidates(), current(r.URL.Query())), Clones: clones(r, rank.GetCandidates())}
}

// clones are the candidates that the manifest has not got; none for one that
// did not say what it has.
func clones(r *http.Request, candidates []*steeringpb.Candidate) (out []PathwayClone) {
	q := r.URL.Query()
	if q.Get("pathways") == "" {
		return nil
	}
	has, hosts := strings.Split(q.Get("pathways"), ","), hostsFor(r)
	for _, c := range plain(candidates) {
		id := pathway(c.GetAppliance())
		u, err := url.Parse(named(c.GetPlainUrl(), hosts))
		if err != nil || slices.Contains(has, id) {
			continue
		}
		host := u.Host
		if q.Get("format") == formatDASH {
			host = u.Scheme + "://" + host
		}
		out = append(out, PathwayClone{BaseID: has[0], ID: id, Replacement: URIReplacement{Host: host}})
	}
	return out
}

// current is the pathway that a player says it uses; the latest of several. DASH
// has it in quotes.
func current(q url.Values) string {
	for _, name := range []string{"_DASH_pathway", "_HLS_pathway"} {
		first, _, _ := strings.Cut(strings.Trim(q.Get(name), `"`), ",")
		if first != "" && len(first) <= maxID {
			return first
		}
	}
	return ""
}

// prefer lists the pathways that a player may use, best first, with the one in use
// before those that are as near.
func prefer(candidates []*steeringpb.Candidate, now string) []string {
	from := plain(candidates)
	out := []string{}
	for _, c := range from {
		out = append(out, pathway(c.GetAppliance()))
	}
	if i := slices.Index(out, now); i > 0 && from[i].GetRank() == from[0].GetRank() {
		out = slices.Insert(slices.Delete(out, i, i+1), 0, now)
	}
	return out
}

// plain are the candidates that a stock player can reach, as many as it is told
// of.
func plain(candidates []*steeringpb.Candidate) []*steeringpb.Candidate {
	out := slices.DeleteFunc(slices.Clone(candidates), func(c *steeringpb.Candidate) bool { return c.GetPlainUrl() == "" })
	return out[:min(len(out), maxAppliances)]
}
