package player

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"go.opentelemetry.io/otel/attribute"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// maxNames bounds the resolver's cache: a play needs a dozen.
const maxNames = 64

// udpSize is the answer size a query says it takes, the one that the DNS
// operators' flag day of 2020 agreed on.
const udpSize = 1232

// dnsServer is one server to ask.
type dnsServer struct {
	addr string
	// timeout of one try.
	timeout time.Duration
	// deadUntil is when a server that did not answer is asked first again.
	deadUntil time.Time
}

// resolver looks names up as a stub resolver in the client's place would:
// with the client's subnet in the query, answers kept for their time to live.
type resolver struct {
	tel    *telemetry.Telemetry
	dial   services.DialFunc
	client netip.Prefix
	now    func() time.Time
	// retryAfter is how long a dead server is asked last.
	retryAfter time.Duration

	mu      sync.Mutex
	servers []dnsServer
	cache   map[string]answer
}

type answer struct {
	addrs   []netip.AddrPort
	expires time.Time
}

// subnet is the part of a client's address that goes into a query (RFC 7871
// recommends no more than these).
func subnet(ip netip.Addr) netip.Prefix {
	bits := 24
	if ip.Is6() {
		bits = 56
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// edge returns the addresses and ports that serve HTTPS for a host, by its
// HTTPS records or, without any, by A and SRV.
func (r *resolver) edge(ctx context.Context, host string) ([]netip.AddrPort, error) {
	return r.cached(ctx, "edge "+host, func(ctx context.Context) ([]netip.AddrPort, time.Duration, error) {
		addrs, ttl, err := r.httpsRecords(ctx, host)
		if err != nil || len(addrs) > 0 {
			return addrs, ttl, err
		}
		return r.srvRecords(ctx, host)
	})
}

// host returns the addresses of a host.
func (r *resolver) host(ctx context.Context, host string) ([]netip.AddrPort, error) {
	return r.cached(ctx, "host "+host, func(ctx context.Context) ([]netip.AddrPort, time.Duration, error) {
		return r.hostRecords(ctx, host, 0)
	})
}

// forget drops what is known about a host.
func (r *resolver) forget(host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.cache, "edge "+host)
	delete(r.cache, "host "+host)
}

func (r *resolver) cached(ctx context.Context, key string, look func(context.Context) ([]netip.AddrPort, time.Duration, error)) ([]netip.AddrPort, error) {
	r.mu.Lock()
	a, ok := r.cache[key]
	r.mu.Unlock()
	if ok && r.now().Before(a.expires) {
		return a.addrs, nil
	}
	ctx, span := r.tel.Tracer.Start(ctx, "dns "+key)
	addrs, ttl, err := look(ctx)
	if err == nil && len(addrs) == 0 {
		_, name, _ := strings.Cut(key, " ")
		err = services.Errorf(services.Unavailable, "DNS knows no address for %s", name)
	}
	span.SetAttributes(attribute.Int("dns.answers", len(addrs)))
	telemetry.End(span, err)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cache) >= maxNames {
		clear(r.cache)
	}
	r.cache[key] = answer{addrs: addrs, expires: r.now().Add(ttl)}
	return addrs, nil
}

func (r *resolver) httpsRecords(ctx context.Context, host string) ([]netip.AddrPort, time.Duration, error) {
	msg, err := r.query(ctx, host, dns.TypeHTTPS)
	if err != nil {
		return nil, 0, err
	}
	var out []netip.AddrPort
	ttl := ttlOf(msg)
	for _, rr := range msg.Answer {
		h, ok := rr.(*dns.HTTPS)
		if !ok || h.Priority == 0 { // priority 0 is an alias, which the lab has none of
			continue
		}
		port, hints := uint16(443), []net.IP(nil)
		for _, kv := range h.Value {
			switch v := kv.(type) {
			case *dns.SVCBPort:
				port = v.Port
			case *dns.SVCBIPv4Hint:
				hints = v.Hint
			}
		}
		if len(hints) > 0 {
			out = append(out, withPort(hints, port)...)
			continue
		}
		target := h.Target
		if target == "." {
			target = host
		}
		addrs, t, err := r.hostRecords(ctx, target, port)
		if err != nil {
			return nil, 0, err
		}
		out, ttl = append(out, addrs...), min(ttl, t)
	}
	return out, ttl, nil
}

func (r *resolver) srvRecords(ctx context.Context, host string) ([]netip.AddrPort, time.Duration, error) {
	msg, err := r.query(ctx, "_https._tcp."+host, dns.TypeSRV)
	if err != nil {
		return nil, 0, err
	}
	var out []netip.AddrPort
	ttl := ttlOf(msg)
	for _, rr := range msg.Answer {
		srv, ok := rr.(*dns.SRV)
		if !ok {
			continue
		}
		addrs, t, err := r.hostRecords(ctx, srv.Target, srv.Port)
		if err != nil {
			return nil, 0, err
		}
		out, ttl = append(out, addrs...), min(ttl, t)
	}
	return out, ttl, nil
}

func (r *resolver) hostRecords(ctx context.Context, host string, port uint16) ([]netip.AddrPort, time.Duration, error) {
	msg, err := r.query(ctx, host, dns.TypeA)
	if err != nil {
		return nil, 0, err
	}
	var ips []net.IP
	for _, rr := range msg.Answer {
		if a, ok := rr.(*dns.A); ok {
			ips = append(ips, a.A)
		}
	}
	return withPort(ips, port), ttlOf(msg), nil
}

func withPort(ips []net.IP, port uint16) []netip.AddrPort {
	var out []netip.AddrPort
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, netip.AddrPortFrom(a.Unmap(), port))
		}
	}
	return out
}

// ttlOf is the shortest time to live in an answer.
func ttlOf(m *dns.Msg) time.Duration {
	ttl := uint32(3600)
	for _, rr := range m.Answer {
		ttl = min(ttl, rr.Header().Ttl)
	}
	return time.Duration(ttl) * time.Second
}

// query asks the servers in order until one answers.
func (r *resolver) query(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	m.SetEdns0(udpSize, false)
	family := uint16(1)
	if r.client.Addr().Is6() {
		family = 2
	}
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_SUBNET{
		Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(r.client.Bits()), Address: r.client.Addr().AsSlice(),
	})
	var last error
	for _, s := range r.order() {
		reply, err := r.exchange(ctx, m, s)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			last = err
		case reply.Rcode == dns.RcodeSuccess:
			return reply, nil
		case reply.Rcode == dns.RcodeNameError:
			return nil, services.Errorf(services.NotFound, "DNS has no name %s", name).WithReason("no_such_name")
		default:
			last = services.Errorf(services.Unavailable, "DNS server %s answers %s", s.addr, dns.RcodeToString[reply.Rcode])
		}
		r.bury(s.addr)
	}
	return nil, &services.Error{Op: "dns " + name, Kind: services.Unavailable, Msg: "no DNS server of the lab answers", Err: last}
}

// exchange asks one server, over TCP again when the answer did not fit.
func (r *resolver) exchange(ctx context.Context, m *dns.Msg, s dnsServer) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		reply, err := r.ask(ctx, network, m, s)
		if err != nil || !reply.Truncated {
			return reply, err
		}
	}
	return nil, services.Errorf(services.Unavailable, "DNS server %s cuts its answers short", s.addr)
}

func (r *resolver) ask(ctx context.Context, network string, m *dns.Msg, s dnsServer) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	raw, err := r.dial(ctx, network, s.addr)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := dns.Client{Net: network, UDPSize: udpSize, Timeout: s.timeout}
	reply, _, err := c.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: raw, UDPSize: udpSize})
	return reply, err
}

// order lists the servers, those that did not answer of late last.
func (r *resolver) order() []dnsServer {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	var alive, dead []dnsServer
	for _, s := range r.servers {
		if now.Before(s.deadUntil) {
			dead = append(dead, s)
		} else {
			alive = append(alive, s)
		}
	}
	return append(alive, dead...)
}

func (r *resolver) bury(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.servers {
		if r.servers[i].addr == addr {
			r.servers[i].deadUntil = r.now().Add(r.retryAfter)
		}
	}
}
