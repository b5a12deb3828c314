package registry

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/telemetry"
)

// batch takes what a peer has to tell. Everything in it is a peer's word,
// whatever the headers say, and goes no further.
func (s *Server) batch(w http.ResponseWriter, r *http.Request, _ []string) {
	in, ok := readBatch(w, r)
	if !ok {
		return
	}
	out := eureka.Outcomes{List: make([]eureka.Outcome, 0, len(in.List))}
	for i := range in.List {
		out.List = append(out.List, s.replicated(&in.List[i]))
	}
	telemetry.WriteJSON(w, http.StatusOK, out)
}

// readBatch reads a batch, or answers why it cannot.
func readBatch(w http.ResponseWriter, r *http.Request) (*eureka.Batch, bool) {
	if media, ok := contentForm(r); !ok || media != eureka.JSON {
		refuseMedia(w, r, "application/json, which a batch is")
		return nil, false
	}
	body, err := readBody(w, r, maxBatch)
	if err != nil {
		refuseBody(w, err)
		return nil, false
	}
	in, err := eureka.DecodeBatch(body)
	if err != nil {
		refuseBody(w, err)
		return nil, false
	}
	return in, true
}

// renewals takes the heartbeats of all instances of a process at once, in the
// form of a batch: an extension of ours, for a process of thirty instances that
// would send thirty requests a second. It answers like a batch. They are the
// instances' own word, and are told to peers.
func (s *Server) renewals(w http.ResponseWriter, r *http.Request, _ []string) {
	in, ok := readBatch(w, r)
	if !ok {
		return
	}
	out := eureka.Outcomes{List: make([]eureka.Outcome, 0, len(in.List))}
	for _, it := range in.List {
		status := http.StatusBadRequest
		if it.Action == eureka.ActHeartbeat {
			var dirty int64
			if it.LastDirty != nil {
				dirty = int64(*it.LastDirty)
			}
			status = http.StatusOK
			if outcome, _ := s.heartbeat(key{strings.ToUpper(it.App), it.ID}, dirty, "", false); outcome == unknown {
				status = http.StatusNotFound
			}
		}
		out.List = append(out.List, eureka.Outcome{Status: status})
	}
	telemetry.WriteJSON(w, http.StatusOK, out)
}

// replicated does what one item of a batch says.
func (s *Server) replicated(it *eureka.Replication) eureka.Outcome {
	k := key{strings.ToUpper(it.App), it.ID}
	var dirty int64
	if it.LastDirty != nil {
		dirty = int64(*it.LastDirty)
	}
	status := eureka.ParseStatus(it.Status)
	s.metrics.received.WithLabelValues(it.Action).Inc()
	switch it.Action {
	case eureka.ActRegister:
		if it.Instance == nil {
			return eureka.Outcome{Status: http.StatusBadRequest}
		}
		if err := s.admit(it.Instance, k.app, true); err != nil {
			return eureka.Outcome{Status: services.KindOf(err).HTTPStatus()}
		}
		return eureka.Outcome{Status: http.StatusOK}
	case eureka.ActHeartbeat:
		switch outcome, in := s.heartbeat(k, dirty, it.OverriddenStatus, true); outcome {
		case unknown:
			return eureka.Outcome{Status: http.StatusNotFound}
		case conflict:
			return eureka.Outcome{Status: http.StatusConflict, Instance: in}
		}
		return eureka.Outcome{Status: http.StatusOK}
	case eureka.ActCancel:
		return outcomeOf(s.leave(k, dirty, true))
	case eureka.ActStatusUpdate:
		if status == eureka.StatusUnknown {
			return eureka.Outcome{Status: http.StatusBadRequest}
		}
		return outcomeOf(s.setStatus(k, status, "", dirty, true))
	case eureka.ActDeleteOverride:
		return outcomeOf(s.setStatus(k, "", status, dirty, true))
	}
	return eureka.Outcome{Status: http.StatusBadRequest}
}

func outcomeOf(ok bool) eureka.Outcome {
	if !ok {
		return eureka.Outcome{Status: http.StatusNotFound}
	}
	return eureka.Outcome{Status: http.StatusOK}
}

// encodeBatch writes what is told to a peer.
func encodeBatch(list []eureka.Replication) ([]byte, error) {
	return json.Marshal(eureka.Batch{List: list})
}
