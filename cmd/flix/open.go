package main

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/web"
	"github.com/flix-lab/flix/services"
)

type openOptions struct {
	listen    string
	noBrowser bool
	printURL  bool
	out       output
}

// opened is what flix open says of itself, as JSON.
type opened struct {
	Lab string `json:"lab"`
	URL string `json:"url"`
}

func newOpenCmd(a *app) *cobra.Command {
	o := openOptions{}
	c := &cobra.Command{
		Use: "open", Short: "Watch in a browser, with a map of the lab", Args: cobra.NoArgs,
		Long: `Serves a web page until Ctrl-C, and opens it: sign in, browse, search, and watch
in a stock player (Shaka Player) that the lab steers. Beside the picture stands
which appliance serves it; a map shows every play move when an appliance dies or
a region is evacuated.

The page is a viewer like any other: it signs in, searches and starts plays
through DNS, balancer and gateway, and fetches the video from the appliances
themselves. Where it watches from is chosen on the page.`,
		Example: "  flix open\n  flix open --no-browser --listen 127.0.0.1:8080\n  flix open --no-browser -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			return runOpen(cmd.Context(), a, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "loopback address and port of the page; port 0 takes a free one")
	f.BoolVar(&o.noBrowser, "no-browser", false, "do not start a browser")
	f.BoolVar(&o.printURL, "print-url", false, "print the page's address on standard output, for a script")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

func runOpen(ctx context.Context, a *app, o openOptions) error {
	at, err := netip.ParseAddrPort(o.listen)
	if err != nil || !at.Addr().IsLoopback() {
		return services.Errorf(services.Invalid, "--listen: %q is not a loopback address with a port: who reaches the page is a viewer of the lab", o.listen).WithRemedy("write it like 127.0.0.1:8080")
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	server, err := web.New(ctx, web.Config{
		Lab: client, Connect: connectAPI, Offer: web.Viewer{Email: lab.DemoEmail, Password: lab.DemoPassword},
		Warn: func(format string, args ...any) { a.env.errOut().Printf(format, args...) },
	})
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return services.Errorf(services.Conflict, "--listen: %v", err).WithRemedy("choose another port")
	}
	url := "http://" + ln.Addr().String() + "/"
	a.env.errOut().Printf("the lab's page is at %s; Ctrl-C ends it\n", url)
	switch {
	case o.out.machine():
		err = o.out.print(a, opened{Lab: a.name, URL: url})
	case o.printURL:
		a.env.out().Printf("%s\n", url)
	}
	if err == nil && !o.noBrowser {
		browse(ctx, a, url)
	}
	if err != nil {
		_ = ln.Close()
		return err
	}
	return server.Serve(ctx, ln)
}

// connectAPI is the way to the public API of a viewer near a region.
func connectAPI(w control.World, region string) (web.API, error) {
	v, err := lab.NewViewer(w, nil)
	if err != nil {
		return nil, err
	}
	return v.Edge(lab.PlayOptions{Region: region})
}

// browse starts the desktop's browser. A machine without one is no failure: the
// address has been printed.
func browse(ctx context.Context, a *app, url string) {
	opener := "xdg-open"
	if runtime.GOOS == "darwin" {
		opener = "open"
	}
	if b := a.env.Getenv("BROWSER"); b != "" {
		opener = b
	}
	path, err := exec.LookPath(opener)
	if err != nil {
		a.env.errOut().Printf("no browser was found to open it with (%s): open the address yourself, or use --no-browser\n", opener)
		return
	}
	// It outlives this command, as a browser does that was open before.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, url)
	if err := cmd.Start(); err != nil {
		a.env.errOut().Printf("%s: %v; open the address yourself\n", path, err)
		return
	}
	go func() { _ = cmd.Wait() }() // only so that no dead process is left: what it says is its own
}
