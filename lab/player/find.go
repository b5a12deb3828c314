package player

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/discovery"
	"github.com/flix-lab/flix/services/signup"
	"github.com/flix-lab/flix/services/telemetry"
)

// nearMatches is how many similar titles an unknown one is answered with.
const nearMatches = 5

// signIn returns a member token.
func (s *session) signIn(ctx context.Context) (token string, err error) {
	if s.opts.Token != "" {
		return s.opts.Token, nil
	}
	ctx, span := s.tel.Tracer.Start(ctx, "signin")
	defer func() { telemetry.End(span, err) }()
	var reply signup.SigninReply
	in := signup.SigninRequest{Email: s.opts.Email, Password: s.opts.Password, Device: s.opts.Device}
	if _, err := s.finding.call(ctx, persistent, http.MethodPost, signup.PathSignin, s.id+"-signin", in, &reply); err != nil {
		return "", services.Wrap("sign in", err)
	}
	return reply.Token, nil
}

// browse looks at the home page, if that was asked for.
func (s *session) browse(ctx context.Context) (err error) {
	if !s.opts.Browse {
		return nil
	}
	ctx, span := s.tel.Tracer.Start(ctx, "browse")
	defer func() { telemetry.End(span, err) }()
	_, err = s.finding.call(ctx, persistent, http.MethodGet, discovery.PathRows, "", nil, nil)
	return services.Wrap("browse", err)
}

// find returns the id of the title asked for.
func (s *session) find(ctx context.Context) (id string, err error) {
	ctx, span := s.tel.Tracer.Start(ctx, "search")
	defer func() { telemetry.End(span, err) }()
	q := url.Values{"q": {s.opts.Title}, "limit": {"5"}}
	var reply discovery.SearchReply
	if _, err := s.finding.call(ctx, persistent, http.MethodGet, discovery.PathSearch+"?"+q.Encode(), "", nil, &reply); err != nil {
		return "", services.Wrap("search", err)
	}
	var near []string
	for _, h := range reply.Hits {
		if strings.EqualFold(h.ID, s.opts.Title) || strings.EqualFold(h.Name, s.opts.Title) {
			return h.ID, nil
		}
		if len(near) < nearMatches {
			near = append(near, h.Name+" ("+h.ID+")")
		}
	}
	e := services.Errorf(services.NotFound, "no title is called %q", s.opts.Title).WithReason(services.ReasonNoTitle)
	if len(near) > 0 {
		e.Msg += "; near matches: " + strings.Join(near, ", ")
		return "", e.WithRemedy("play one of these by its name or id")
	}
	return "", e.WithRemedy("flix title ls lists what there is")
}
