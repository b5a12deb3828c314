package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/wan"
	"github.com/flix-lab/flix/oca"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/rpc"
)

// rulesOf are the faults between sites as the network enforces them.
func rulesOf(faults []fault.Fault) []wan.Rule {
	var out []wan.Rule
	for _, f := range faults {
		l := f.Effect.Link
		if l == nil {
			continue
		}
		until := f.Until
		if until.IsZero() {
			until = time.Now().AddDate(100, 0, 0) // until it is stopped
		}
		out = append(out, wan.Rule{
			A: sideOf(l.A), B: sideOf(l.B), OneWay: l.OneWay, Until: until, Delay: l.Delay, Jitter: l.Jitter,
			Loss: l.Loss, Rate: l.Rate, Hole: l.Hole, Cut: l.Cut, Reset: l.Reset,
		})
	}
	return out
}

func sideOf(s fault.Side) wan.Side {
	out := wan.Side{Site: wan.Site{Region: s.Region, Zone: s.Zone, Role: s.Role, Instance: s.Instance, ISP: s.ISP}}
	if len(s.Addrs) > 0 {
		out.Addrs = make(map[string]bool, len(s.Addrs))
		for _, a := range s.Addrs {
			out.Addrs[a] = true
		}
	}
	return out
}

// callsOf are the faults of calls.
func callsOf(faults []fault.Fault) []rpc.Call {
	var out []rpc.Call
	for _, f := range faults {
		if f.Effect.Call != nil {
			out = append(out, *f.Effect.Call)
		}
	}
	return out
}

// suffer makes the world's faults true in this process. Each knows its end.
func (w *Wiring) suffer(faults []fault.Fault) {
	w.wan.Impose(rulesOf(faults))
	w.inject.Set(callsOf(faults))
	w.faults.Store(&faults)
	w.mu.Lock()
	hosts := w.hosts
	w.mu.Unlock()
	for _, f := range faults {
		c := f.Effect.CPU
		if c == nil || !slices.ContainsFunc(c.Hosts, func(h string) bool { return hosts[h] }) || !w.burning(f.ID) {
			continue
		}
		for range c.Cores {
			w.wg.Go(func() { w.burn(f.ID) })
		}
	}
}

// burning says that a fault's processors are to be kept busy from now on; false
// when they are already.
func (w *Wiring) burning(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.burns[id] {
		return false
	}
	w.burns[id] = true
	return true
}

// burn keeps a processor busy while the fault lasts.
func (w *Wiring) burn(id string) {
	defer func() { w.mu.Lock(); delete(w.burns, id); w.mu.Unlock() }()
	for x := uint64(1); w.ctx.Err() == nil; {
		if w.suffers(func(f fault.Fault) bool { return f.ID == id }) == nil {
			return
		}
		for range 1 << 20 { // a millisecond or so between two looks
			x = x*6364136223846793005 + 1442695040888963407
		}
	}
}

// suffers returns the fault in force that a test picks; nil if there is none.
func (w *Wiring) suffers(is func(fault.Fault) bool) *fault.Fault {
	faults := w.faults.Load()
	if faults == nil {
		return nil
	}
	now := time.Now()
	for k := range *faults {
		if f := &(*faults)[k]; !f.Over(now) && is(*f) {
			return f
		}
	}
	return nil
}

// clock is the wall clock of the unit, which a fault may put wrong.
func (u *unit) clock() time.Time {
	f := u.w.suffers(func(f fault.Fault) bool {
		return f.Effect.Clock != nil && slices.Contains(f.Effect.Clock.Instances, u.spec.ID)
	})
	if f == nil {
		return time.Now()
	}
	return time.Now().Add(f.Effect.Clock.Offset)
}

// disk is what ails the disk of an appliance.
func (u *unit) disk() oca.DiskFault {
	f := u.w.suffers(func(f fault.Fault) bool {
		return f.Effect.Disk != nil && slices.Contains(f.Effect.Disk.Instances, u.spec.ID)
	})
	if f == nil {
		return oca.DiskFault{}
	}
	return oca.DiskFault{Full: f.Effect.Disk.Full, Delay: f.Effect.Disk.Delay}
}

// misanswers is how the unit's DNS answers wrongly; "" when it does not.
func (u *unit) misanswers() string {
	f := u.w.suffers(func(f fault.Fault) bool {
		return f.Effect.DNS != nil && slices.Contains(f.Effect.DNS.Instances, u.spec.ID)
	})
	if f == nil {
		return ""
	}
	return f.Effect.DNS.Mode
}

// certificate is what the unit's edge shows: its own, or while a fault says so
// one that has expired.
func (u *unit) certificate() func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	own := &u.world.cert
	expired := sync.OnceValues(expiredCertificate)
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if u.hasExpired() {
			return expired()
		}
		return own, nil
	}
}

// hasExpired says that a fault has the unit show an expired certificate.
func (u *unit) hasExpired() bool {
	return u.w.suffers(func(f fault.Fault) bool { return slices.Contains(f.Effect.Expired, u.spec.ID) }) != nil
}

// expiredCertificate makes a certificate that was good until yesterday. A
// client looks at the time before it looks at who signed (RFC 5280, 6.1.3), so
// nobody need sign it.
func expiredCertificate() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "expired.flix.test"},
		DNSNames: []string{"*.flix.test", "*.oc.flix.test", "localhost"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// site is where the unit's traffic starts.
func (u *unit) site() wan.Site {
	s := wan.Site{Region: u.spec.Region, Zone: u.spec.Zone, Role: u.spec.Role, Instance: u.spec.ID}
	if u.spec.Site != nil {
		s.ISP = u.spec.Site.Name
	}
	return s
}

// dialOptions are the unit's for a gRPC connection to a service: its
// instruments, the faults injected into its calls, and its own place in the
// network.
func (u *unit) dialOptions(service string) []grpc.DialOption {
	dial := u.dial()
	opts := append(u.tel.DialOptions(), u.w.inject.DialOptions(u.spec.Region, service)...)
	return append(opts, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
}

// dial returns a dialer for traffic from the instance to the rest of the lab.
func (u *unit) dial() services.DialFunc { return u.w.wan.DialerAt(u.site()) }
