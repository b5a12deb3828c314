package gateway

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// maxSecureNames bounds the names that connections are kept for; a table has
// fewer routes.
const maxSecureNames = 2 * maxRoutes

// secureOrigins are the connections to fixed origins over TLS, by the name that
// an origin must prove.
type secureOrigins struct {
	dial   services.DialFunc
	conf   *tls.Config
	limit  time.Duration // of a handshake
	pooled func() *http.Transport

	mu     sync.Mutex
	byName map[secureName]*httpSender
}

// secureName is a name, and whether HTTP/2 is left out.
type secureName struct {
	name string
	h1   bool
}

func newSecureOrigins(d Deps, dial services.DialFunc) secureOrigins {
	return secureOrigins{
		dial: dial, limit: 5 * d.Timing.RPCTimeout.D(), pooled: func() *http.Transport { return pooled(d) },
		conf:   &tls.Config{RootCAs: d.OriginCAs, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(64)},
		byName: make(map[secureName]*httpSender),
	}
}

// sender returns the connections to origins that prove a name, or for "" their
// addresses; h1 leaves HTTP/2 out, which has no Upgrade.
func (o *secureOrigins) sender(name string, h1 bool) wire.Sender {
	key := secureName{name, h1}
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.byName[key]; s != nil {
		return s
	}
	if len(o.byName) >= maxSecureNames { // of tables that are gone, most of them
		for k, s := range o.byName {
			s.CloseIdleConnections()
			delete(o.byName, k)
		}
	}
	rt := o.pooled()
	conf := o.conf.Clone()
	conf.ServerName = name
	if conf.NextProtos = []string{"h2", "http/1.1"}; h1 {
		conf.NextProtos = conf.NextProtos[1:]
	}
	rt.DialTLSContext = connecting(dialTLS(o.dial, conf, o.limit))
	rt.Protocols = new(http.Protocols)
	rt.Protocols.SetHTTP1(true)
	rt.Protocols.SetHTTP2(!h1)
	s := &httpSender{rt: rt, scheme: "https"}
	o.byName[key] = s
	return s
}

func (o *secureOrigins) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.byName {
		s.Close()
	}
}

// secureHost is the Host for an origin over TLS: the client's would name a host
// that the certificate does not.
func secureHost(name, addr string) string {
	at, err := netip.ParseAddrPort(addr)
	if err != nil || name == "" {
		return addr
	}
	if at.Port() == 443 {
		return name
	}
	return name + ":" + itoa(int(at.Port()))
}
