package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
)

func newServeOCACmd(a *app) *cobra.Command {
	var o lab.ServeFolderOptions
	c := &cobra.Command{
		Use: "oca", Short: "Serve a folder as an appliance does, without a lab", Args: cobra.NoArgs,
		Long: `Serves the files of a folder over HTTP/1.1 and, with a certificate, over TLS 1.3
and HTTP/2 too: ranges of every form, strong entity tags, conditional requests,
CORS, CMCD. Without TLS the kernel sends the bytes from the file to the socket.

Each URL begins with a signed, expiring token, so that relative URLs in
manifests work; "flix serve oca sign" makes one. With --no-auth everybody on
this machine is served without.

Nothing outside the folder is served, neither by dots nor by links. Files may be
added, replaced and removed while it runs, and so may the certificate and its
key: they are looked at with every handshake, and read again on a hangup
(SIGHUP); a pair that cannot be used leaves the one before in force. A hangup
also has the file of --access-log opened again, so that it can be renamed first,
as logrotate does. It stops on an interrupt, after closing its door, telling
HTTP/2 clients to go (GOAWAY) and giving answers under way 3 s.

There may be 50,000 connections, fewer if the process may open fewer files
(ulimit -n). Idle ones then make room for those who come; if none is idle, these
are closed at once.`,
		Example: `  flix serve oca --root media --listen 127.0.0.1:8080 --no-auth
  flix serve oca --root media --listen 127.0.0.1:8443 \
    --tls-cert cert.pem --tls-key key.pem --key sign.key
  flix serve oca sign --key sign.key --base https://127.0.0.1:8443 --path movie`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out, o.Err = a.env.Out, a.env.Err
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			o.Reload = hangup
			return lab.ServeFolder(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Root, "root", "", "folder to serve")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	f.StringVar(&o.CertFile, "tls-cert", "", "certificate chain (PEM); with --tls-key")
	f.StringVar(&o.KeyFile, "tls-key", "", "its private key (PEM)")
	f.StringVar(&o.SignKey, "key", "", "file of the key that URLs are signed with; made if it is not there")
	f.BoolVar(&o.NoAuth, "no-auth", false, "serve without signed URLs; on loopback only")
	f.StringSliceVar(&o.Announced, "announce", nil, "serve only clients inside this prefix; may be repeated")
	f.DurationVar(&o.MaxAge, "max-age", 0, "how long caches may keep media without asking again")
	f.StringVar(&o.AccessLog, "access-log", "", `file for a line of JSON per request, "-" is the standard output (default: requests with CMCD, on the standard error)`)
	_ = c.MarkFlagRequired("root") // it exists
	c.AddCommand(newServeOCASignCmd(a))
	return c
}

func newServeOCASignCmd(a *app) *cobra.Command {
	var o lab.SignFolderOptions
	c := &cobra.Command{
		Use: "sign", Short: "Make a signed URL of a served folder", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			u, err := lab.SignFolder(cmd.Context(), o, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintln(a.env.Out, u)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.SignKey, "key", "", "file of the key that the server has")
	f.StringVar(&o.Base, "base", "", "URL of the server; without, the path alone is printed")
	f.StringVar(&o.Path, "path", "", "file or folder that the URL opens; without, everything")
	f.StringVar(&o.Client, "client", "", "the only address it is good for; without, any")
	f.DurationVar(&o.TTL, "ttl", time.Hour, "how long it is good for")
	return c
}
