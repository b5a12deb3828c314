package registry

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxContext is how many path segments may stand before a resource: stock
// clients use /eureka/v2 or their own application's context, such as /eureka
// or /discovery/v2.
const maxContext = 3

// resources are the first segments of the API's paths.
var resources = []string{"apps", "vips", "svips", "instances", "peerreplication", "renewals", "asg", "serverinfo"}

// split returns the segments of a path from the resource on, decoded. A
// trailing slash and doubled ones do not matter.
func split(u *url.URL) ([]string, bool) {
	var segs []string
	for s := range strings.SplitSeq(u.EscapedPath(), "/") {
		if s == "" {
			continue
		}
		d, err := url.PathUnescape(s)
		if err != nil {
			return nil, false
		}
		segs = append(segs, d)
	}
	for n, s := range segs {
		if n > maxContext {
			break
		}
		if slices.Contains(resources, s) || s == "status" && n == len(segs)-1 {
			return segs[n:], true
		}
	}
	return nil, false
}

// endpoint is a handler with the name its requests are counted under.
type endpoint struct {
	resource string
	serve    func(w http.ResponseWriter, r *http.Request, path []string)
}

// methods of one path.
type methods map[string]endpoint

func (m methods) allow() string {
	names := append(make([]string, 0, len(m)+2), http.MethodOptions)
	for name := range m {
		names = append(names, name)
	}
	if _, ok := m[http.MethodGet]; ok {
		names = append(names, http.MethodHead)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// routes lists what there is by the shape of the path: the resource and the
// number of segments, or a fixed last segment.
func (s *Server) routes() func(path []string) methods {
	const get, put, post, del = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
	var (
		apps     = methods{get: {"apps", s.fetchAll}}
		delta    = methods{get: {"delta", s.fetchDelta}}
		app      = methods{get: {"app", s.fetchApp}, post: {"register", s.register}}
		inst     = methods{get: {"instance", s.instance}, put: {"renew", s.renew}, del: {"cancel", s.cancel}}
		status   = methods{put: {"status", s.override}, del: {"status", s.override}}
		metadata = methods{put: {"metadata", s.annotate}}
		vips     = methods{get: {"vips", s.fetchVIP}}
		svips    = methods{get: {"svips", s.fetchVIP}}
		byID     = methods{get: {"instance", s.instance}}
		batch    = methods{post: {"batch", s.batch}}
		renewals = methods{put: {"renewals", s.renewals}}
		asg      = methods{put: {"asg", s.setGroup}}
		server   = methods{get: {"server", s.serverStatus}}
		words    = methods{get: {"overrides", s.overrides}}
	)
	return func(p []string) methods {
		switch n := len(p); {
		case p[0] == "apps" && n == 1:
			return apps
		case p[0] == "apps" && n == 2 && p[1] == "delta":
			return delta
		case p[0] == "apps" && n == 2:
			return app
		case p[0] == "apps" && n == 3:
			return inst
		case p[0] == "apps" && n == 4 && p[3] == "status":
			return status
		case p[0] == "apps" && n == 4 && p[3] == "metadata":
			return metadata
		case p[0] == "vips" && n == 2:
			return vips
		case p[0] == "svips" && n == 2:
			return svips
		case p[0] == "instances" && n == 2:
			return byID
		case p[0] == "peerreplication" && n == 2 && p[1] == "batch":
			return batch
		case p[0] == "renewals" && n == 1:
			return renewals
		case p[0] == "asg" && n == 3 && p[2] == "status":
			return asg
		case p[0] == "serverinfo" && n == 2 && p[1] == "statusoverrides":
			return words
		case p[0] == "status" && n == 1:
			return server
		}
		return nil
	}
}
