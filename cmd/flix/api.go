package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/services"
)

type apiOptions struct {
	o         lab.PlayOptions
	ip        string
	data      string
	anonymous bool
	headers   []string
	include   bool
	proxy     string
	document  bool
}

func newAPICmd(a *app) *cobra.Command {
	o := apiOptions{}
	c := &cobra.Command{
		Use: "api [METHOD] PATH", Short: "Call the lab's public HTTP API as a client would", Args: cobra.MaximumNArgs(2),
		Long: `Makes one request to the public API: DNS, WAN, balancer and gateway included, as
the demo member or another. The method is GET, or POST where there are data. The
answer's body goes to standard output; a refusal's too, with the exit code of
its kind.

--proxy listens on an address of this machine and passes plain HTTP on to the
API, so that curl, a browser or a test tool can use it. --openapi prints the
API's description.`,
		Example: "  flix api /discovery/rows\n  flix api /play/start --data '{\"session_id\":\"s1\",\"title_id\":\"harbor-lights\"}'\n  flix api --proxy 127.0.0.1:8080 --region eu-west\n  flix api --openapi > openapi.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAPI(cmd.Context(), a, o, args)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.data, "data", "d", "", "body of the request; @FILE reads it from a file, @- from standard input")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "header to send, as Name: value")
	f.BoolVarP(&o.include, "include", "i", false, "print status and headers, too")
	f.BoolVar(&o.anonymous, "anonymous", false, "do not sign in")
	f.StringVar(&o.proxy, "proxy", "", "listen here and pass requests on, e.g. 127.0.0.1:8080")
	f.BoolVar(&o.document, "openapi", false, "print the OpenAPI description")
	f.StringVar(&o.o.Country, "country", "", "country of the client (picks an ISP there)")
	f.StringVar(&o.o.ISP, "isp", "", "ISP of the client")
	f.StringVar(&o.ip, "ip", "", "simulated address of the client")
	f.StringVar(&o.o.Region, "region", "", "region the client lives near; it never pins the region that answers")
	f.StringVar(&o.o.Device, "device", "web", "web, phone or tv")
	f.StringVar(&o.o.Email, "email", lab.DemoEmail, "member to sign in as")
	f.StringVar(&o.o.Password, "password", lab.DemoPassword, "the member's password")
	c.MarkFlagsMutuallyExclusive("proxy", "openapi", "data")
	return c
}

func runAPI(ctx context.Context, a *app, o apiOptions, args []string) error {
	if o.document {
		a.env.out().Printf("%s\n", lab.OpenAPI())
		return nil
	}
	if o.ip != "" {
		ip, err := netip.ParseAddr(o.ip)
		if err != nil {
			return services.Errorf(services.Invalid, "--ip: %q is not an address", o.ip).WithRemedy("write it like 198.18.0.7")
		}
		o.o.IP = ip
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	world, err := client.World(ctx)
	if err != nil {
		return err
	}
	viewer, err := lab.NewViewer(world, nil)
	if err != nil {
		return err
	}
	edge, err := viewer.Edge(o.o)
	if err != nil {
		return err
	}
	defer edge.Close()
	if o.proxy != "" {
		return proxyAPI(ctx, a, o.proxy, edge)
	}
	req, err := o.request(ctx, a, args)
	if err != nil {
		return err
	}
	if !o.anonymous && req.Header.Get("Authorization") == "" {
		token, err := edge.SignIn(ctx)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := edge.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return o.show(a, resp)
}

// request makes the request that the arguments ask for.
func (o apiOptions) request(ctx context.Context, a *app, args []string) (*http.Request, error) {
	method, path := http.MethodGet, ""
	switch len(args) {
	case 0:
		return nil, services.Errorf(services.Invalid, "no path was given").WithRemedy("name one, e.g. flix api /discovery/rows; flix api --openapi lists them")
	case 1:
		path = args[0]
		if o.data != "" {
			method = http.MethodPost
		}
	default:
		method, path = strings.ToUpper(args[0]), args[1]
	}
	if !strings.HasPrefix(path, "/") {
		return nil, services.Errorf(services.Invalid, "PATH: %q does not begin with a slash", path).WithRemedy("write it like /discovery/rows")
	}
	body, err := o.body(ctx, a)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://api.flix.test"+path, body)
	if err != nil {
		return nil, services.Errorf(services.Invalid, "the request cannot be made: %v", err).WithRemedy("look at the method and the path")
	}
	if o.data != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range o.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, services.Errorf(services.Invalid, "--header: %q has no name and value", h).WithRemedy("write it like 'Accept: application/json'")
		}
		req.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return req, nil
}

// maxData bounds the body of a request that is read from a file, in bytes.
const maxData = 64 << 20

func (o apiOptions) body(ctx context.Context, a *app) (io.Reader, error) {
	file, named := strings.CutPrefix(o.data, "@")
	switch {
	case o.data == "":
		return nil, nil
	case !named:
		return strings.NewReader(o.data), nil
	case file == "-":
		b, err := io.ReadAll(input.Reader(ctx, a.env.In))
		if err != nil {
			return nil, fmt.Errorf("--data: standard input: %w", err)
		}
		return bytes.NewReader(b), nil
	}
	b, err := input.ReadFile(ctx, file, maxData)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, services.Errorf(services.NotFound, "--data: %v", err).WithRemedy("name a file that can be read")
	}
	return bytes.NewReader(b), nil
}

// show prints an answer. A refusal is an error of its kind.
func (o apiOptions) show(a *app, resp *http.Response) error {
	s := a.env.out()
	if o.include {
		s.Printf("%s %s\n", resp.Proto, resp.Status)
		for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
			for _, v := range resp.Header[name] {
				s.Printf("%s: %s\n", name, v)
			}
		}
		s.Printf("\n")
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return &services.Error{Op: "answer", Kind: services.Unavailable, Msg: "it ended before its end", Err: err}
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, bytes.TrimSpace(body), "", "  ") == nil {
		body = append(pretty.Bytes(), '\n')
	}
	s.Printf("%s", body)
	if resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	var p services.Problem
	if json.Unmarshal(body, &p) != nil || p.Kind == "" {
		p = services.Problem{Kind: services.KindFromHTTP(resp.StatusCode), Error: resp.Status}
	}
	return &services.Error{Kind: p.Kind, Reason: p.Reason, Msg: p.Error, Remedy: p.Remedy}
}

// sayBase tells the API how a page reaches it when it asks for a manifest: the
// gateway only sees the proxy's own connection.
func sayBase(r *httputil.ProxyRequest) {
	if q := r.Out.URL.Query(); strings.HasSuffix(r.Out.URL.Path, "/manifest.mpd") && !q.Has("base") {
		q.Set("base", "http://"+r.In.Host)
		r.Out.URL.RawQuery = q.Encode()
	}
}

// proxyAPI passes plain HTTP from this machine's loopback on to the API until
// ctx ends.
func proxyAPI(ctx context.Context, a *app, address string, edge *lab.Edge) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return services.Errorf(services.Invalid, "--proxy: %q is not a loopback address with a port: who reaches it is a client of the lab", address).WithRemedy("write it like 127.0.0.1:8080")
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return services.Errorf(services.Conflict, "--proxy: %v", err).WithRemedy("choose another port")
	}
	p := &httputil.ReverseProxy{
		Rewrite:   sayBase,
		Transport: edge,
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				a.env.errOut().Printf("%s %s: %v\n", r.Method, r.URL.Path, err)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadGateway)
			_ = json.NewEncoder(w).Encode(services.ProblemOf(err)) // the client is gone: nothing to tell it
		},
	}
	srv := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	a.env.errOut().Printf("the public API is at http://%s; Ctrl-C ends it\n", ln.Addr())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // what still runs after the grace is cut off
		}
		err = <-done
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
