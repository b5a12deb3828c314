package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

// publicHost is the name that clients ask for.
const publicHost = "api.flix.test"

// showable says why no client accepts the certificate that the gateway shows now.
func (s *Server) showable(now time.Time) error {
	if s.tls == nil {
		return nil
	}
	var cert *tls.Certificate
	if s.tls.GetCertificate != nil {
		var err error
		if cert, err = s.tls.GetCertificate(&tls.ClientHelloInfo{ServerName: publicHost}); err != nil {
			return &services.Error{Op: "health", Kind: services.Unavailable, Msg: "there is no certificate to show", Err: err}
		}
	}
	if cert == nil && len(s.tls.Certificates) > 0 {
		cert = &s.tls.Certificates[0]
	}
	if cert == nil || len(cert.Certificate) == 0 {
		return nil // the configuration has another way to find one, for each client
	}
	leaf := cert.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return &services.Error{Op: "health", Kind: services.Unavailable, Msg: "the certificate cannot be read", Err: err}
		}
	}
	if now.After(leaf.NotAfter) {
		return services.Errorf(services.Unavailable, "the certificate has expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339)).WithRemedy("renew it")
	}
	return nil
}

// HealthPath is answered by the gateway itself, unless a route has it: whoever
// asks wants to know whether the way to the gateway is whole, so neither the
// region's savers nor a limit are asked. It is no client's request, and the
// evacuation does not count it as one.
const HealthPath = "/healthz"

// wholeServer is the path of OPTIONS *, which asks about no API but the gateway,
// by RFC 9110 section 9.3.7: the codecs let no other method have it.
const wholeServer = "*"

// asksGateway says that no API can answer, unless a route has the path.
func asksGateway(ex *Exchange) bool {
	return ex.Request.Path == HealthPath || ex.Request.Path == wholeServer
}

// asksHealth is the built-in filter "health".
func (s *Server) asksHealth(ex *Exchange) error {
	ex.health = ex.Route == nil
	return nil
}

// answerHealth looks at what the asker, who comes without TLS, does not see: a
// gateway that shows an expired certificate is no way in for anybody.
func (s *Server) answerHealth(ex *Exchange) error {
	if ex.Request.Path == wholeServer {
		ex.Response = Response{Status: http.StatusOK, Header: NewHeader("Cache-Control", "no-store")}
		return nil
	}
	const ok = "ok\n"
	if err := s.showable(ex.Received); err != nil {
		return err
	}
	h := NewHeader("Content-Type", "text/plain; charset=utf-8", "Cache-Control", "no-store")
	ex.Response = Response{Status: http.StatusOK, Header: h, Body: io.NopCloser(strings.NewReader(ok)), ContentLength: int64(len(ok))}
	return nil
}
