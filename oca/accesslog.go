package oca

import (
	"context"
	"errors"
	"strings"

	"github.com/flix-lab/flix/oca/access"
	"github.com/flix-lab/flix/oca/wire"
)

const (
	// accessFile is the access log in an appliance's folder.
	accessFile = "access.log"
	// maxAccessLog in bytes; one file before it is kept.
	maxAccessLog = 16 << 20
)

// logAccess queues the line of a client's request.
func (s *Server) logAccess(r *wire.Request, a *wire.Answer, v *visit) {
	data, _ := access.CMCD(r)
	l := access.Line{Appliance: string(s.d.ID), Session: v.claims.Session, Title: v.name.title, Path: "/t/" + v.name.String()}
	if v.name.title == "" {
		l.Path = logPath(r.Path)
	}
	l.Fill(r, a, data, v.start)
	if v.err != nil && l.Error == "" {
		l.Error = v.err.Error()
	}
	s.access.Note(l)
}

// logLoop writes the access log until ctx ends. An appliance whose disk takes no
// log serves on without.
func (s *Server) logLoop(ctx context.Context) (err error) {
	f, err := access.OpenFile(s.store.root, accessFile, maxAccessLog)
	if err != nil {
		s.diskFailed(err)
	} else {
		s.access.To(f)
		defer func() { err = errors.Join(err, f.Close()) }()
	}
	stop := context.AfterFunc(ctx, s.access.Close)
	defer stop()
	s.access.Run()
	return nil
}

// logPath leaves the token out: a log must not let its reader replay a URL.
func logPath(p string) string {
	if _, rest, ok := strings.Cut(p, "/t/"); ok {
		return "/t/" + rest
	}
	return p
}
