package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

func newRoutesCmd(a *app) *cobra.Command {
	return group("routes", "Which requests go where", newRoutesLsCmd(a), newRoutesSetCmd(a), newRoutesRmCmd(a), newRoutesHistoryCmd(a), newRoutesRollbackCmd(a))
}

func newRoutesLsCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "ls", Short: "List the routes as they are tried, and who follows them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runRoutes(cmd.Context(), a, out, false, func(ctx context.Context, c *control.Client) (control.Routes, error) { return c.Routes(ctx) })
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

// routeFlags are the flags of a route and of a change.
type routeFlags struct {
	route                 control.Route
	path                  string
	exact, member, open   bool
	headers, limits       []string
	percent               float64
	timeout, last         time.Duration
	file, note            string
	dryRun                bool
	ifVersion             int
	out                   output
	percentSet, memberSet bool
}

const setHelp = `Adds a route, or replaces the one of that name. All of the conditions that it
names must hold. Of the routes that match, the one with the highest --priority
wins, then an exact path, then the longest, then the one with the most
conditions; overlays change the target of the winner.

A target is one of: a VIP of the registry, another region (with --vip: which API
answers there), an instance, a fixed origin inside the lab's networks. Of a
VIP's instances gRPC calls reach the port rpc, else http; other requests reach
http alone.

Without --member or --open a new route asks for a member's token where the route
that its path leads to so far does.

--when takes a condition:

  country in (US, CA) && device == tv
  path ^= /play/v2 || header("X-Beta") == yes
  client in (198.18.0.0/16) and not percent(50, "salt")
  query(debug) =~ "^(yes|no)$"

Its fields are client, country, device, host, isp, member, method, path, plan,
region, zone, header(NAME) and query(NAME); == != ^= (begins with) $= (ends
with) *= (contains) =~ (RE2) in (…); and or not, && || !.

With --file the whole table is replaced by that of a file ("-" is stdin): JSON
or YAML, an array of routes or {"routes": […]}, as flix gateway routes ls -o
json prints them.`

func newRoutesSetCmd(a *app) *cobra.Command {
	var f routeFlags
	c := &cobra.Command{
		Use: "set NAME [flags]", Short: "Add or replace a route, or the whole table", Args: cobra.MaximumNArgs(1), Long: setHelp,
		Example: `  flix gateway routes set rows --path /rows --vip discovery --member
  flix gateway routes set canary --path /play --percent 5 --vip play-canary
  flix gateway routes set tv-us --path /play --device tv --region us-west
  flix gateway routes set pin --members m-1 --instance us-east/a/play/1
  flix gateway routes set mock --path /m --origin http://127.0.0.1:9000 --open
  flix gateway routes set --file table.json --note "before the launch"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.percentSet = cmd.Flags().Changed("percent")
			f.memberSet = f.member || f.open
			change, err := f.change(cmd.Context(), a, args)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("if-version") {
				change.IfVersion = &f.ifVersion
			}
			return runChange(cmd.Context(), a, f.out, change)
		},
	}
	fl, r := c.Flags(), &f.route
	fl.StringVar(&f.path, "path", "", "path, and everything below it; * has no meaning in it and is refused")
	fl.BoolVar(&f.exact, "exact", false, "--path is the whole path")
	fl.StringSliceVar(&r.Hosts, "host", nil, "hosts; *.example.org is everything below example.org")
	fl.StringSliceVar(&r.Methods, "method", nil, "methods")
	fl.StringArrayVar(&f.headers, "header", nil, "header that must have a value, NAME=VALUE or NAME=* for any")
	fl.StringSliceVar(&r.Countries, "country", nil, "countries of the client, like US,CA")
	fl.StringSliceVar(&r.Devices, "device", nil, "devices: tv, phone, tablet, web")
	fl.StringSliceVar(&r.Members, "members", nil, "members by id")
	fl.Float64Var(&f.percent, "percent", 100, "share of the viewers, always the same ones")
	fl.StringVar(&r.Salt, "salt", "", "routes with the same salt take their shares from the same order of viewers (default: the name)")
	fl.StringVar(&r.When, "when", "", "a condition, see above")
	fl.StringSliceVar(&r.In, "in", nil, "regions whose gateways follow the route (default: all)")
	fl.DurationVar(&f.last, "for", 0, "the route ends by itself after this time")
	fl.StringVar(&r.VIP, "vip", "", "target: a VIP of the registry")
	fl.StringVar(&r.Region, "region", "", "target: the gateways of another region")
	fl.StringVar(&r.Instance, "instance", "", "target: one instance, as long as it is up; makes an overlay unless --vip and --path are given")
	fl.StringSliceVar(&r.Origins, "origin", nil, "target: fixed servers, like http://127.0.0.1:9000")
	fl.BoolVar(&r.Overlay, "overlay", false, "change only where requests of the route beneath go")
	fl.IntVar(&r.Priority, "priority", 0, "orders routes before anything else does, higher first")
	fl.BoolVar(&f.member, "member", false, "only with a member's token")
	fl.BoolVar(&f.open, "open", false, "without a member's token too")
	fl.BoolVar(&r.AnyPage, "any-page", false, "pages of every origin may ask and read")
	fl.StringVar(&r.Class, "class", "", "what is shed first under overload: critical, degraded, non-critical")
	fl.StringSliceVar(&f.limits, "limit", nil, "rates like client=10/s, member=5/s:20, all=1000/s")
	fl.DurationVar(&f.timeout, "timeout", 0, "time-out of one try (default: the gateway's)")
	fl.StringVarP(&f.file, "file", "f", "", "replace the whole table by that of a file")
	f.changeFlags(c)
	c.MarkFlagsMutuallyExclusive("member", "open")
	return c
}

func (f *routeFlags) changeFlags(c *cobra.Command) {
	c.Flags().StringVar(&f.note, "note", "", "why, for the history")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "check the change and print the table it makes, change nothing")
	c.Flags().IntVar(&f.ifVersion, "if-version", 0, "change nothing unless the table is at this version")
	f.out.flag(c, "table", "json", "yaml")
}

// change is what the flags and arguments ask for.
func (f *routeFlags) change(ctx context.Context, a *app, args []string) (control.RouteChange, error) {
	change := control.RouteChange{Note: f.note, DryRun: f.dryRun}
	if f.file != "" {
		if len(args) > 0 {
			return change, usageError{errors.New("set takes a name or --file, not both")}
		}
		rs, err := readTable(ctx, a, f.file)
		change.Replace = rs
		return change, err
	}
	if len(args) == 0 || args[0] == "" {
		return change, usageError{errors.New("set needs the name of a route, or --file")}
	}
	if f.last < 0 {
		return change, usageError{fmt.Errorf("--for %s: a route that ends by itself ends in the future", f.last)}
	}
	if strings.Contains(f.path, "*") {
		return change, usageError{fmt.Errorf("--path %q: * stands for itself, and a path covers everything below it; for a pattern add --when 'path =~ \"^/a/[^/]+/b$\"' to the path above", f.path)}
	}
	r := f.route
	r.Name, r.Member, r.Timeout = args[0], f.member, topology.Duration(f.timeout)
	if f.exact {
		r.Path = f.path
	} else {
		r.Prefix = f.path
	}
	if f.percentSet {
		if math.IsNaN(f.percent) || math.IsInf(f.percent, 0) {
			return change, usageError{fmt.Errorf("--percent %v is outside 0 to 100", f.percent)}
		}
		r.Percent = &f.percent
	}
	if f.last > 0 {
		until := time.Now().Add(f.last).UTC().Truncate(time.Millisecond)
		r.Until = &until
	}
	if r.Instance != "" && (r.VIP == "" || f.path == "") {
		r.Overlay = true
	}
	var err error
	if len(f.headers) > 0 {
		if r.Headers, err = pairs(f.headers, "="); err != nil {
			return change, err
		}
	}
	if len(f.limits) > 0 {
		if r.Limits, err = readLimits(f.limits); err != nil {
			return change, err
		}
	}
	change.Set, change.Inherit = []control.Route{r}, !f.memberSet
	return change, nil
}

func readLimits(args []string) (*control.Limits, error) {
	var l control.Limits
	for _, arg := range args {
		who, rate, _ := strings.Cut(arg, "=")
		switch who {
		case "client":
			l.Client = rate
		case "member":
			l.Member = rate
		case "all":
			l.All = rate
		default:
			return nil, services.Errorf(services.Invalid, "--limit: %q is not client, member or all", who).WithRemedy("write it like --limit client=10/s")
		}
	}
	return &l, nil
}

// maxTableFile bounds a table that is read, in bytes.
const maxTableFile = 1 << 20

// readTable reads a table as JSON or YAML.
func readTable(ctx context.Context, a *app, file string) ([]control.Route, error) {
	in := input.Reader(ctx, a.env.In)
	if file != "-" {
		f, err := input.Open(ctx, file)
		if err != nil {
			return nil, &services.Error{Kind: services.Invalid, Op: "--file", Err: err}
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxTableFile+1))
	if err != nil || len(b) > maxTableFile {
		return nil, &services.Error{Kind: services.Invalid, Op: "--file", Msg: fmt.Sprintf("%s has more than %d bytes or cannot be read", file, maxTableFile), Err: err}
	}
	var plain any
	if err := yaml.Unmarshal(b, &plain); err != nil { // JSON is YAML
		return nil, &services.Error{Kind: services.Invalid, Op: file, Err: err}
	}
	if m, ok := plain.(map[string]any); ok {
		plain = m["routes"]
	}
	if b, err = json.Marshal(plain); err != nil {
		return nil, &services.Error{Kind: services.Invalid, Op: file, Err: err}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var rs []control.Route
	if err := d.Decode(&rs); err != nil {
		return nil, &services.Error{Kind: services.Invalid, Op: file, Msg: "want an array of routes, or {routes: […]}", Err: err}
	}
	if len(rs) == 0 {
		return nil, services.Errorf(services.Invalid, "%s: it has no routes", file).WithRemedy("go back to the built-in table with: flix gateway routes rollback 0")
	}
	return rs, nil
}

func newRoutesRmCmd(a *app) *cobra.Command {
	var f routeFlags
	c := &cobra.Command{
		Use: "rm NAME…", Short: "Remove routes", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			change := control.RouteChange{Remove: args, Note: f.note, DryRun: f.dryRun}
			if cmd.Flags().Changed("if-version") {
				change.IfVersion = &f.ifVersion
			}
			return runChange(cmd.Context(), a, f.out, change)
		},
	}
	f.changeFlags(c)
	return c
}

func newRoutesRollbackCmd(a *app) *cobra.Command {
	var f routeFlags
	c := &cobra.Command{
		Use: "rollback [VERSION]", Short: "Make an earlier version the table again, or the one before", Args: cobra.MaximumNArgs(1),
		Long: `Makes an earlier version the table again, as a new version: the history only
grows. Version 0 is the built-in table.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			to := -1
			if len(args) > 0 {
				n, err := strconv.Atoi(args[0])
				if err != nil || n < 0 {
					return usageError{fmt.Errorf("%q is not a version", args[0])}
				}
				to = n
			}
			change := control.RouteChange{Rollback: &to, Note: f.note, DryRun: f.dryRun}
			if cmd.Flags().Changed("if-version") {
				change.IfVersion = &f.ifVersion
			}
			return runChange(cmd.Context(), a, f.out, change)
		},
	}
	f.changeFlags(c)
	return c
}

func newRoutesHistoryCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "history", Short: "List the versions of the table", Args: cobra.NoArgs,
		RunE: show(a, &out, func(ctx context.Context, c *control.Client) (control.RouteHistory, error) { return c.RouteHistory(ctx) }, func(h control.RouteHistory) error {
			s := a.env.out()
			var rows [][]string
			for _, v := range h.Versions {
				at, current := "built in", ""
				if !v.At.IsZero() {
					at = v.At.Local().Format(time.DateTime)
				}
				if v.Current {
					current = s.Good("current")
				}
				rows = append(rows, []string{strconv.Itoa(v.Version), at, strings.Join(v.Changes, ", "), strconv.Itoa(len(v.Routes)), v.Note, current})
			}
			return s.Table([]string{"version", "at", "changes", "routes", "note", ""}, rows)
		}),
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

// runRoutes prints the table that ask returns; dry says that it is not in force.
func runRoutes(ctx context.Context, a *app, out output, dry bool, ask func(context.Context, *control.Client) (control.Routes, error)) error {
	if err := out.check(); err != nil {
		return err
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	rs, err := ask(ctx, client)
	if err != nil {
		return err
	}
	if out.machine() {
		return out.print(a, rs)
	}
	return printRoutes(a.env.out(), rs, dry)
}

func runChange(ctx context.Context, a *app, out output, change control.RouteChange) error {
	return runRoutes(ctx, a, out, change.DryRun, func(ctx context.Context, c *control.Client) (control.Routes, error) {
		rs, err := c.ChangeRoutes(ctx, change)
		if err != nil || out.machine() {
			return rs, err
		}
		msg := a.env.errOut()
		switch {
		case len(rs.Changes) == 0:
			msg.Printf("nothing changes: the table is at version %d as it is\n", rs.Version)
		case change.DryRun:
			msg.Printf("version %d would be: %s; nothing was changed\n", rs.Version, strings.Join(rs.Changes, ", "))
		default:
			msg.Printf("version %d: %s\n", rs.Version, strings.Join(rs.Changes, ", "))
		}
		return rs, nil
	})
}

func printRoutes(s render.Screen, rs control.Routes, dry bool) error {
	var rows [][]string
	for _, r := range rs.Routes {
		asks := "anybody"
		switch {
		case r.Overlay:
			asks = "as beneath"
		case r.Member:
			asks = "members"
		}
		if r.AnyPage {
			asks += ", any page"
		}
		rows = append(rows, []string{r.Name, routePath(r), routeConditions(r), routeTarget(r), asks, routeClass(r)})
	}
	if err := s.Table([]string{"route", "path", "when", "to", "open to", "class"}, rows); err != nil {
		return err
	}
	follow := 0
	for _, g := range rs.Gateways {
		if g.State == "current" {
			follow++
		}
	}
	if dry {
		s.Printf("%d of %d gateways follow the table in force\n", follow, len(rs.Gateways))
	} else {
		s.Printf("version %d; %d of %d gateways follow it\n", rs.Version, follow, len(rs.Gateways))
	}
	for _, g := range rs.Gateways {
		if g.State != "current" {
			s.Printf("%s %s, at version %d %s\n", s.Warn(g.Gateway), g.State, g.Version, g.Error)
		}
	}
	return nil
}

func routePath(r control.Route) string {
	switch {
	case r.Path != "":
		return r.Path + " only"
	case r.Prefix == "/":
		return "/*"
	case r.Prefix != "":
		return r.Prefix + "[/*]"
	}
	return "any"
}

func routeConditions(r control.Route) string {
	var out []string
	add := func(name string, values []string) {
		if len(values) > 0 {
			out = append(out, name+" "+strings.Join(values, "|"))
		}
	}
	add("host", r.Hosts)
	add("method", r.Methods)
	for k, v := range r.Headers {
		out = append(out, k+"="+v)
	}
	add("country", r.Countries)
	add("device", r.Devices)
	add("member", r.Members)
	if r.Percent != nil {
		out = append(out, strconv.FormatFloat(*r.Percent, 'g', -1, 64)+" %")
	}
	if r.When != "" {
		out = append(out, r.When)
	}
	add("in", r.In)
	if r.Until != nil {
		out = append(out, "until "+r.Until.Local().Format(time.TimeOnly))
	}
	return strings.Join(out, ", ")
}

func routeTarget(r control.Route) string {
	switch {
	case len(r.Origins) > 0:
		return strings.Join(r.Origins, " ")
	case r.Instance != "":
		return r.Instance
	case r.Region != "" && r.VIP != "":
		return r.VIP + " in " + r.Region
	case r.Region != "":
		return "region " + r.Region
	}
	return r.VIP
}

func routeClass(r control.Route) string {
	switch {
	case r.Overlay:
		return ""
	case r.Class == "":
		return "critical"
	}
	return r.Class
}
