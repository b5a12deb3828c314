package registry

import (
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/telemetry"
)

// statusInfo is the root of the original's page in XML: a class of its.
const statusInfo = "com.netflix.eureka.util.StatusInfo"

// serverStatus answers /status: the server itself, its peers and how it does,
// with the members of the original's page.
func (s *Server) serverStatus(w http.ResponseWriter, r *http.Request, _ []string) {
	general, app := s.stats()
	in := s.self()
	if form(r).XML {
		b := []byte("<" + statusInfo + ">")
		b = eureka.AppendMap(b, "generalStats", general)
		b = eureka.AppendMap(b, "applicationStats", app)
		b = append(b, "<instanceInfo>"...)
		rec := eureka.AppendInstance(nil, in, eureka.Form{XML: true})
		b = append(b, rec[len("<instance>"):len(rec)-len("</instance>")]...)
		b = append(b, "</instanceInfo><isHeathly>true</isHeathly></"+statusInfo+">"...) // spelt as the original does
		w.Header().Set("Content-Type", eureka.XML)
		_, _ = w.Write(b) // the client is gone: nothing to tell it
		return
	}
	telemetry.WriteJSON(w, http.StatusOK, map[string]any{"generalStats": general, "applicationStats": app, "instanceInfo": in, "isHeathly": true})
}

func (s *Server) stats() (general, app map[string]string) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	up := s.deps.Clock().Sub(s.started).Round(time.Minute)
	e := s.preservation()
	general = map[string]string{
		"environment": "flix", "num-of-cpus": strconv.Itoa(runtime.NumCPU()),
		"total-avail-memory":   strconv.FormatUint(mem.Sys>>20, 10) + "mb",
		"current-memory-usage": strconv.FormatUint(mem.Alloc>>20, 10) + "mb",
		"server-uptime":        up.String(),
	}
	var all, good, bad []string
	for _, p := range s.peers.report() {
		if p.State == peerSelf {
			continue
		}
		all = append(all, p.URL)
		if p.State == peerOK {
			good = append(good, p.URL)
		} else {
			bad = append(bad, p.URL)
		}
	}
	app = map[string]string{
		"registered-replicas": strings.Join(all, ","), "available-replicas": strings.Join(good, ","), "unavailable-replicas": strings.Join(bad, ","),
		"renews-last-minute": strconv.Itoa(e.RenewsLastMinute), "renews-threshold": strconv.Itoa(e.Threshold),
		"self-preservation": strconv.FormatBool(e.Preserving),
	}
	return general, app
}

// self is the server's own record.
func (s *Server) self() *eureka.Instance {
	addr := s.deps.Listener.Addr().String()
	host, port := hostPort(addr)
	started := eureka.Num(s.started.UnixMilli())
	return &eureka.Instance{
		InstanceID: addr, HostName: host, App: "EUREKA", IPAddr: host, Status: eureka.StatusUp, OverriddenStatus: eureka.StatusUnknown,
		Port: eureka.Port{Number: eureka.Num(port), Enabled: true}, CountryID: 1, DataCenter: eureka.DataCenter{Name: "MyOwn"},
		Lease: &eureka.Lease{RenewalSecs: seconds(s.deps.Timing.LeaseRenewal.D()), DurationSecs: seconds(s.deps.Timing.LeaseDuration.D()), Registered: started, LastRenewal: started, ServiceUp: started},
		VIP:   "eureka", Coordinating: true, LastUpdated: eureka.Millis(started), LastDirty: eureka.Millis(started), Action: eureka.ActionAdded,
	}
}

// overrides answers /serverinfo/statusoverrides: the operator's word by
// instance.
func (s *Server) overrides(w http.ResponseWriter, _ *http.Request, _ []string) {
	telemetry.WriteJSON(w, http.StatusOK, s.store.words())
}

func (s *store) words() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]string, len(s.overrides))
	for k, o := range s.overrides {
		out[k.id] = o
	}
	return out
}
