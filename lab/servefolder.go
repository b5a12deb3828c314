package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/lab/resident"
	"github.com/flix-lab/flix/oca/folder"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
)

// ServeFolderOptions says how a folder is served without a lab.
type ServeFolderOptions struct {
	// Root is the folder, Listen the address ("127.0.0.1:0" picks a port).
	Root, Listen string
	// CertFile and KeyFile hold a PEM certificate and its key; both or none.
	CertFile, KeyFile string
	// NoAuth serves everybody without a signed URL; on loopback only.
	NoAuth bool
	// SignKey is the file of the key that URLs are signed with; it is made if
	// it does not exist.
	SignKey string
	// Announced are the prefixes whose clients are served; empty is all.
	Announced []string
	// MaxAge is how long caches may keep media.
	MaxAge time.Duration
	// AccessLog is a file, or "-" for Out; empty logs requests with CMCD to
	// Err.
	AccessLog string
	// Reload has the certificate read and the file of AccessLog opened again for
	// each value; nil never does. A certificate is looked at with every handshake
	// anyway.
	Reload <-chan os.Signal
	// Out and Err are the standard output and error.
	Out, Err io.Writer
}

// folderKey is the lab's name in the tokens of a folder: a lab cannot have it.
const folderKey = "/folder"

// ServeFolder serves a folder as an appliance does, until ctx ends. It prints
// a line on Err once it listens.
func ServeFolder(ctx context.Context, o ServeFolderOptions) (err error) {
	if o.MaxAge < 0 {
		return services.Errorf(services.Invalid, "--max-age is %s, less than nothing", o.MaxAge).WithRemedy("write how long caches may keep media, e.g. 1h; 0 is not at all")
	}
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		return services.Errorf(services.Invalid, "--listen %q is not an address: %v", o.Listen, err).WithRemedy("write HOST:PORT, e.g. 127.0.0.1:8080 or [::1]:8080")
	}
	c := folder.Config{Dir: o.Root, MaxAge: o.MaxAge, Access: o.Err, AccessCMCD: true, Descriptors: descriptors(),
		Log: slog.New(slog.NewJSONHandler(o.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if c.Key, err = folderAuth(ctx, o); err != nil {
		return err
	}
	cert, err := givenCertificate(ctx, o.CertFile, o.KeyFile, o.say)
	if err != nil {
		return err
	}
	if cert != nil {
		c.TLS = cert.config(ctx)
	}
	for _, text := range o.Announced {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return services.Errorf(services.Invalid, "--announce %q is not a prefix", text).WithRemedy("write it like 198.18.0.0/15 or 2001:db8::/32")
		}
		if p.Addr().Is4In6() {
			return services.Errorf(services.Invalid, "--announce %q is of IPv4 addresses in the form of IPv6, which no client has", text).WithRemedy("write it like 198.18.0.0/15")
		}
		c.Announced = append(c.Announced, p.Masked())
	}
	var log *folderLog
	switch o.AccessLog {
	case "":
	case "-":
		c.Access, c.AccessCMCD = o.Out, false
	default:
		if log, err = openFolderLog(o.AccessLog); err != nil {
			return err
		}
		defer log.Close()
		c.Access, c.AccessCMCD = log, false
	}
	if c.Listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen); err != nil {
		return services.Errorf(services.Conflict, "cannot listen: %v", err).WithRemedy("choose another --listen; port 0 takes any that is free")
	}
	s, err := folder.New(c)
	if err != nil {
		c.Listener.Close()
		return err
	}
	fmt.Fprintf(o.Err, "flix: serving %s at %s\n", o.Root, folderURL(c.Listener.Addr(), c.TLS != nil))
	var group sync.WaitGroup
	defer group.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	group.Go(func() { onHangup(ctx, o.Reload, func() { o.hungUp(ctx, cert, log) }) })
	if err := resident.Release(); err != nil {
		o.say(err.Error())
	}
	return s.Serve(ctx)
}

// descriptors is how many this process may have open, zero if nobody knows.
func descriptors() uint64 {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	return uint64(r.Cur)
}

// hungUp opens the access log and reads the certificate again; nil is for none.
func (o ServeFolderOptions) hungUp(ctx context.Context, c *certificate, log *folderLog) {
	if log != nil {
		if err := log.reopen(); err != nil {
			o.say(fmt.Sprintf("--access-log cannot be opened again, the file before stays in use: %v", err))
		} else {
			o.say(fmt.Sprintf("--access-log %s is opened again", o.AccessLog))
		}
	}
	switch {
	case c != nil:
		c.reload(ctx)
	case log == nil:
		o.say("there is neither a certificate to read again nor an --access-log file to open: a hangup changes nothing")
	}
}

// say tells what happens to the files, in one line.
func (o ServeFolderOptions) say(text string) { fmt.Fprintf(o.Err, "flix: %s\n", text) }

func folderURL(a net.Addr, tls bool) string {
	if tls {
		return "https://" + a.String() + "/"
	}
	return "http://" + a.String() + "/"
}

// folderAuth is the key of signed URLs, nil for none.
func folderAuth(ctx context.Context, o ServeFolderOptions) (*token.Key, error) {
	switch {
	case o.NoAuth && o.SignKey != "":
		return nil, services.Errorf(services.Invalid, "--no-auth and --key exclude each other")
	case o.SignKey != "":
		return folderKeyOf(ctx, o.SignKey, true)
	case !o.NoAuth:
		return nil, services.Errorf(services.Invalid, "there is neither --key nor --no-auth").
			WithRemedy("give --key FILE and sign URLs with: flix serve oca sign --key FILE; or --no-auth to serve everybody on this machine")
	case !onLoopback(o.Listen):
		return nil, services.Errorf(services.Denied, "--no-auth would serve everybody who reaches %s", o.Listen).
			WithRemedy("listen on 127.0.0.1, or give --key FILE")
	}
	return nil, nil
}

// onLoopback says whether nobody from outside reaches a listening address.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// folderKeyOf reads a key from a file, making it if it may.
func folderKeyOf(ctx context.Context, file string, make bool) (*token.Key, error) {
	text, err := input.ReadFile(ctx, file, maxPEM)
	if errors.Is(err, fs.ErrNotExist) && make {
		text = []byte(hex.EncodeToString(randomBytes(32)) + "\n")
		var f *os.File
		if f, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_, err = f.Write(text)
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		return nil, &services.Error{Op: "--key", Kind: services.Invalid, Err: err}
	}
	key, err := token.NewKey(folderKey, []byte(strings.TrimSpace(string(text))))
	if err != nil {
		return nil, services.Errorf(services.Invalid, "--key %s: %v", file, err).WithRemedy("name a file that does not exist, and one is made")
	}
	return &key, nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it cannot fail (crypto/rand)
	return b
}

// SignFolderOptions says what a signed URL prefix is good for.
type SignFolderOptions struct {
	// SignKey is the file of the key that the server was given.
	SignKey string
	// Base is the server's URL; empty gives the path alone.
	Base string
	// Path is the file or folder in the root that the URL opens; empty is all.
	Path string
	// Client is the only address it is good for; empty is any.
	Client string
	// TTL is how long.
	TTL time.Duration
}

// SignFolder makes a URL of a served folder.
func SignFolder(ctx context.Context, o SignFolderOptions, now time.Time) (string, error) {
	if o.SignKey == "" {
		return "", services.Errorf(services.Invalid, "--key is missing").WithRemedy("give the file that flix serve oca has as --key")
	}
	if o.TTL <= 0 {
		return "", services.Errorf(services.Invalid, "--ttl is %s, want more than nothing", o.TTL).WithRemedy("write how long it is good for, e.g. 4h")
	}
	if o.Base != "" {
		u, err := url.Parse(o.Base)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return "", services.Errorf(services.Invalid, "--base %q is not the URL of a server", o.Base).WithRemedy("write it like https://127.0.0.1:8443")
		}
	}
	name := strings.Trim(o.Path, "/")
	if name != "" && !filepath.IsLocal(name) {
		return "", services.Errorf(services.Invalid, "--path %q leads out of the folder", o.Path).WithRemedy("name a file or folder in it as a URL would, without its escapes, e.g. movie/v.mp4")
	}
	if name = path.Clean(name); name == "." {
		name = "" // the folder itself: everything
	}
	if o.Client != "" {
		a, err := netip.ParseAddr(o.Client)
		if err != nil {
			return "", services.Errorf(services.Invalid, "--client %q is not an address", o.Client).WithRemedy("write it like 198.18.0.7 or 2001:db8::7, or leave it out for any")
		}
		o.Client = a.Unmap().String()
	}
	key, err := folderKeyOf(ctx, o.SignKey, false)
	if err != nil {
		return "", err
	}
	// A token ends with a whole second: this one is good for its time at least.
	tok := key.Sign(token.URL, token.Claims{Title: name, Client: o.Client}, now, o.TTL+time.Second-1)
	return strings.TrimSuffix(o.Base, "/") + "/" + tok + "/" + (&url.URL{Path: name}).EscapedPath(), nil
}
