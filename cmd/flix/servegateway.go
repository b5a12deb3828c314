package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
)

func newServeGatewayCmd(a *app) *cobra.Command {
	var o lab.GatewayOptions
	c := &cobra.Command{
		Use: "gateway", Short: "Serve a gateway that stands alone, in front of declared upstreams", Args: cobra.NoArgs,
		Long: `Serves the lab's edge gateway by itself: every filter, no registry. A request
goes to the upstream of the longest path that matches it; several upstreams of
one path share its requests. Neither the Host header nor a target in absolute
form ever chooses an upstream, and upstreams outside the declared networks are
refused.

A URL is SCHEME://HOST[:PORT][/PATH]. http is HTTP/1.1, h2c HTTP/2 without TLS,
https either over TLS: the upstream must prove the URL's host, by the system's
authorities or those of --upstream-ca, and gets it as Host; other upstreams get
the Host that the client named. With a path, if only /, the URL's path takes the
place of the route's, as with nginx's proxy_pass: with
/api=http://127.0.0.1:9000/v1 a request for /api/x asks for /v1/x, with
/api=http://127.0.0.1:9000/ for /x, and with /api=http://127.0.0.1:9000 for
/api/x.

A request's body may have 16 MiB, and is streamed; more with --property
gateway.max_body=BYTES.

Pages and their preflights (CORS) are the upstreams' own matter, unless
--property gateway.filter.cors.origins=https://www.example.org,… names the pages
that may ask: then the gateway answers for them.

/healthz is answered by the gateway itself, with 200, unless a route has it.

Without a certificate it speaks HTTP/1.1, and HTTP/2 to clients that begin with
it; with one, TLS 1.3 with HTTP/2 or HTTP/1.1. The certificate and its key may
be replaced while it runs: they are looked at with every handshake, and read
again on a hangup (SIGHUP); a pair that cannot be used leaves the one before in
force.

SIGINT or SIGTERM ends it: it takes no connections any more, and requests under
way have the time of --drain; a second signal ends it at once.`,
		Example: `  flix serve gateway --listen 127.0.0.1:8080 --route /api=http://127.0.0.1:9000
  flix serve gateway --listen 127.0.0.1:8443 --tls-cert c.pem --tls-key k.pem \
    --route /=http://127.0.0.1:9000,http://127.0.0.1:9001 \
    --route /static=http://10.0.0.7 --origin-cidr 10.0.0.0/24
  flix serve gateway --route /web=https://example.org/ --origin-cidr 0.0.0.0/0`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			o.Reload = hangup
			return lab.RunGateway(cmd.Context(), a.env.lab(), o, a.env.Err)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8080", "HOST:PORT to listen on; port 0 takes a free one")
	f.StringArrayVar(&o.Routes, "route", nil, "PATH=URL[,URL…]: where requests below a path go; may be given more than once")
	f.StringSliceVar(&o.OriginCIDRs, "origin-cidr", nil, "networks that upstreams may lie in (default loopback); may be given more than once")
	f.StringSliceVar(&o.TrustedProxies, "trusted-proxy", nil, "networks of balancers that may tell a client's address by PROXY protocol v2")
	f.StringVar(&o.UpstreamCA, "upstream-ca", "", "PEM file with the authorities of https upstreams (default the system's)")
	f.StringVar(&o.TLSCert, "tls-cert", "", "PEM file with the certificate chain")
	f.StringVar(&o.TLSKey, "tls-key", "", "PEM file with its key")
	f.StringArrayVar(&o.Properties, "property", nil, "NAME=VALUE: a run-time property, gateway.max_body=1000000000 for example")
	f.DurationVar(&o.Drain, "drain", 10*time.Second, "how long requests under way may last after SIGINT or SIGTERM")
	f.StringVar(&o.Admin, "admin", "", "HOST:PORT for /metrics and /healthz (default none)")
	return c
}
