package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/services"
)

// defaultApp is the application whose keys the lab's services use.
const defaultApp = "flix"

// maxCacheValue bounds what "flix cache set" reads, in bytes.
const maxCacheValue = 20 << 20

func newCacheCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "cache", Short: "EVCache: read, write, warm and compare the zones",
		Long: `EVCache is memcached in every zone of a region: what is written goes to all
zones, what is read comes from the reader's own, or else from another.

Keys lie where the original Java client puts them, as "app:key"; the lab's own
services are the application "` + defaultApp + `".`,
		Example: "  flix cache status\n  flix cache set greeting hello --ttl 1m\n  flix cache get greeting --region eu-west\n  flix cache warm b\n  flix cache check --repair",
	}
	c.AddCommand(newCacheStatusCmd(a), newCacheGetCmd(a), newCacheSetCmd(a), newCacheDeleteCmd(a), newCacheWarmCmd(a), newCacheCheckCmd(a), newCacheModeCmd(a), newCacheReplicationCmd(a))
	return c
}

// cacheClient connects to the lab after the output's format was checked.
func cacheClient(ctx context.Context, a *app, out output) (*control.Client, error) {
	if err := out.check(); err != nil {
		return nil, err
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	return client, err
}

func newCacheStatusCmd(a *app) *cobra.Command {
	var (
		out    output
		region string
	)
	c := &cobra.Command{
		Use: "status", Short: "Every cache server: what it holds and how it is used", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := cacheClient(cmd.Context(), a, out)
			if err != nil {
				return err
			}
			st, err := client.CacheStatus(cmd.Context(), region)
			if err != nil {
				return err
			}
			return printCacheStatus(a, out, st)
		},
	}
	c.Flags().StringVar(&region, "region", "", "one region only")
	out.flag(c, "table", "json", "yaml")
	return c
}

func printCacheStatus(a *app, out output, st control.CacheStatus) error {
	if out.machine() {
		return out.print(a, st)
	}
	s := a.env.out()
	var rows [][]string
	for _, r := range st.Regions {
		for _, z := range r.Zones {
			mode := z.Mode
			if mode != "read-write" {
				mode = s.Warn(mode)
			}
			if z.Warming != nil {
				mode += fmt.Sprintf(" (warming, %.0f %%)", z.Warming.Percent())
			}
			for _, x := range z.Servers {
				name := x.Instance
				if !x.Up {
					rows = append(rows, []string{s.Bad("○ ") + name, mode, "-", "-", "-", "-", "-", x.Error})
					continue
				}
				rows = append(rows, []string{
					name, mode, strconv.FormatInt(x.Items, 10), render.Bytes(x.Bytes) + " of " + render.Bytes(x.LimitBytes), hitRatio(x.Hits, x.Misses),
					strconv.FormatInt(x.Evictions, 10), strconv.FormatInt(x.Connections, 10), x.Version,
				})
			}
		}
	}
	if len(rows) == 0 {
		s.Printf("the topology has no evcache\n")
		return nil
	}
	err := s.Table([]string{"server", "zone is", "items", "held", "hits", "evicted", "connections", "version"}, rows)
	for _, r := range st.Regions {
		if len(r.Zones) > 0 {
			s.Printf("%s\n", s.Dim(fmt.Sprintf("the services of %s tell other regions of: %s", r.Region, r.Replication)))
		}
	}
	return err
}

func hitRatio(hits, misses int64) string {
	if hits+misses == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(hits)/float64(hits+misses))
}

// keyFlags adds the flags that say where a key is.
func keyFlags(c *cobra.Command, k *control.CacheKey) {
	c.Flags().StringVar(&k.Region, "region", "", "region of the cache; the first of the lab when left out")
	c.Flags().StringVar(&k.App, "app", defaultApp, "application of the key; \"\" takes the key as it is")
}

// bytesKind is the kind of what is bytes to its writer, whether they read as text
// or not.
const bytesKind = "bytes"

func newCacheGetCmd(a *app) *cobra.Command {
	var (
		k   control.CacheKey
		out output
	)
	c := &cobra.Command{
		Use: "get KEY", Short: "Read an item", Args: cobra.ExactArgs(1),
		Long: "Prints the value as it is, and a line end after a text that was stored as\none; what came from a file is as long as the file. Where there is no such\nitem the command ends with code 3.",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := cacheClient(cmd.Context(), a, out)
			if err != nil {
				return err
			}
			k.Key = args[0]
			it, err := client.CacheGet(cmd.Context(), k)
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, it)
			}
			if it.Kind == bytesKind || it.Text == "" && len(it.Value) > 0 {
				_, err = a.env.Out.Write(it.Value)
				return err
			}
			_, err = io.WriteString(a.env.Out, it.Text+"\n")
			return err
		},
	}
	keyFlags(c, &k)
	c.Flags().StringVar(&k.Zone, "zone", "", "read this zone and no other")
	out.flag(c, "text", "json", "yaml")
	return c
}

type cacheSetOptions struct {
	r    control.CacheSetRequest
	ttl  time.Duration
	file string
	out  output
}

func newCacheSetCmd(a *app) *cobra.Command {
	var o cacheSetOptions
	c := &cobra.Command{
		Use: "set KEY [VALUE]", Short: "Store an item in every zone", Args: cobra.RangeArgs(1, 2),
		Long: `Stores a text, or with --file what is in a file (- for standard input), as
bytes. It returns when as many zones have it as --policy says, and the other
regions follow through Kafka.`,
		Example: "  flix cache set greeting hello --ttl 1m\n  flix cache set poster --file poster.jpg",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := cacheClient(cmd.Context(), a, o.out)
			if err != nil {
				return err
			}
			if err := o.value(cmd.Context(), a, args); err != nil {
				return err
			}
			w, err := client.CacheSet(cmd.Context(), o.r)
			if err != nil {
				return err
			}
			return printCacheWritten(a, o.out, w, "stored")
		},
	}
	keyFlags(c, &o.r.CacheKey)
	c.Flags().DurationVar(&o.ttl, "ttl", 0, "how long it lives, in whole seconds; 0: until it is evicted")
	c.Flags().StringVar(&o.file, "file", "", "file with the value; - for standard input")
	c.Flags().StringVar(&o.r.Policy, "policy", "all-minus-one", "zones that are waited for: none, one, quorum, all-minus-one, all")
	c.Flags().StringVar(&o.r.Replication, "replication", "values", "what other regions do: none, invalidate, values")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

// value reads the key and the value.
func (o *cacheSetOptions) value(ctx context.Context, a *app, args []string) error {
	o.r.Key, o.r.TTLMS = args[0], float64(o.ttl.Milliseconds())
	switch {
	case (len(args) == 2) == (o.file != ""):
		return services.Errorf(services.Invalid, "cache set: give a VALUE or --file, one of the two")
	case len(args) == 2:
		o.r.Value = []byte(args[1])
		return nil
	}
	o.r.Binary = true
	in := input.Reader(ctx, a.env.In)
	if o.file != "-" {
		f, err := input.Open(ctx, o.file)
		if err != nil {
			return &services.Error{Op: "--file", Kind: services.NotFound, Err: err, Remedy: "name a file that can be read"}
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxCacheValue+1))
	if err != nil {
		return &services.Error{Op: "--file " + o.file, Kind: services.Unavailable, Err: err}
	}
	if len(b) > maxCacheValue {
		return services.Errorf(services.Invalid, "--file: %s has more than %d bytes", o.file, maxCacheValue)
	}
	o.r.Value = b
	return nil
}

func printCacheWritten(a *app, out output, w control.CacheWritten, verb string) error {
	if out.machine() {
		return out.print(a, w)
	}
	s := a.env.out()
	s.Printf("%s %s in %s of %s (policy %s, other regions: %s, %s)\n", w.Key, verb, zoneList(w.Zones), w.Region, w.Policy, w.Replication, render.MS(w.MS))
	for _, f := range w.Failed {
		s.Printf("%s\n", s.Warn(fmt.Sprintf("not yet in zone %s: %s", f.Zone, f.Error)))
	}
	return nil
}

func zoneList(zones []string) string {
	switch len(zones) {
	case 0:
		return "no zone"
	case 1:
		return "zone " + zones[0]
	}
	return "zones " + strings.Join(zones, ", ")
}

func newCacheDeleteCmd(a *app) *cobra.Command {
	var (
		k   control.CacheKey
		out output
	)
	c := &cobra.Command{
		Use: "delete KEY", Aliases: []string{"rm"}, Short: "Delete an item in every zone and region", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := cacheClient(cmd.Context(), a, out)
			if err != nil {
				return err
			}
			k.Key = args[0]
			w, err := client.CacheDelete(cmd.Context(), k)
			if err != nil {
				return err
			}
			return printCacheWritten(a, out, w, "deleted")
		},
	}
	keyFlags(c, &k)
	out.flag(c, "text", "json", "yaml")
	return c
}

func newCacheWarmCmd(a *app) *cobra.Command {
	var (
		r   control.CacheWarmRequest
		out output
	)
	c := &cobra.Command{
		Use: "warm ZONE", Short: "Fill a zone from a sibling", Args: cobra.ExactArgs(1),
		Long: `Copies every item of another zone into this one, with what remains of its time
to live, unless the zone has the key already: for a zone that is new, or one
with a server that was replaced. While it runs the zone is write-only: it takes
every write, and readers go elsewhere.`,
		Example: "  flix cache warm b\n  flix cache warm eu-west/a --from c --rate 5000",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := cacheClient(cmd.Context(), a, out)
			if err != nil {
				return err
			}
			r.Zone = args[0]
			view := render.NewSteps(a.env.errOut())
			w, err := client.CacheWarm(cmd.Context(), r, func(e control.Event) {
				percent, _ := e.Data["percent"].(float64)
				view.Live("%s %s %3.0f %%  %s", e.Subject, render.Bar(percent, 20), percent, e.Text)
			})
			view.Close()
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, w)
			}
			skipped := ""
			if w.Skipped > 0 {
				skipped = fmt.Sprintf(", %d skipped, whose keys the text protocol cannot name", w.Skipped)
			}
			a.env.out().Printf("zone %s of %s is warm: %d items (%s) copied from zone %s, %d were there already, %d ended meanwhile%s; %s\n",
				w.Zone, w.Region, w.Copied, render.Bytes(w.CopiedBytes), w.From, w.Kept, w.Gone, skipped, render.MS(w.MS))
			return nil
		},
	}
	c.Flags().StringVar(&r.Region, "region", "", "region of the zone; or write REGION/ZONE")
	c.Flags().StringVar(&r.From, "from", "", "zone to copy; another one that is read when left out")
	c.Flags().IntVar(&r.PerSecond, "rate", 0, "items copied in a second at most; 0: no bound")
	c.Flags().BoolVar(&r.KeepMode, "keep-mode", false, "leave the zone open to readers meanwhile")
	out.flag(c, "text", "json", "yaml")
	return c
}

func newCacheCheckCmd(a *app) *cobra.Command {
	var (
		r   control.CacheCheckRequest
		out output
	)
	c := &cobra.Command{
		Use: "check", Short: "Compare what the zones hold, by a sample of the keys", Args: cobra.NoArgs,
		Long: `Takes keys of every server at random and compares what the zones of the region
hold under each. A difference is looked at twice, as a write may be on its way.
With --repair the zones follow the value that most of them hold; without a
majority the one that lives longest. A zone with a server that does not answer
is left out and named; the command then ends with code 6.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := cacheClient(cmd.Context(), a, out)
			if err != nil {
				return err
			}
			if r.Sample <= 0 {
				return services.Errorf(services.Invalid, "--sample: %d is no number of keys", r.Sample)
			}
			res, err := client.CacheCheck(cmd.Context(), r)
			if err != nil {
				return err
			}
			if err := printCacheCheck(a, out, res); err != nil {
				return err
			}
			return comparedAll(res)
		},
	}
	c.Flags().StringVar(&r.Region, "region", "", "one region only")
	c.Flags().IntVar(&r.Sample, "sample", 1000, "keys to look at in each region")
	c.Flags().BoolVar(&r.Repair, "repair", false, "make the zones equal where they differ")
	out.flag(c, "table", "json", "yaml")
	return c
}

// comparedAll is an error that names the zones that were not compared.
func comparedAll(res control.CacheChecked) error {
	var left []string
	for _, r := range res.Regions {
		for _, z := range r.LeftOut {
			left = append(left, r.Region+"/"+z.Zone)
		}
	}
	if len(left) == 0 {
		return nil
	}
	return services.Errorf(services.Unavailable, "%s not compared: a cache server does not answer", strings.Join(left, ", ")).WithRemedy("see which one: flix cache status; check again when it is back")
}

func printCacheCheck(a *app, out output, res control.CacheChecked) error {
	if out.machine() {
		return out.print(a, res)
	}
	s := a.env.out()
	var rows [][]string
	bad := func(n int) string {
		if n == 0 {
			return "0"
		}
		return s.Bad(strconv.Itoa(n))
	}
	for _, r := range res.Regions {
		rows = append(rows, []string{r.Region, strings.Join(r.Zones, " "), strconv.Itoa(r.Keys), strconv.Itoa(r.Equal), bad(r.Missing), bad(r.Values), bad(r.Expiries), strconv.Itoa(r.Repaired)})
	}
	if err := s.Table([]string{"region", "zones", "keys", "equal", "missing", "values differ", "expiry differs", "repaired"}, rows); err != nil {
		return err
	}
	for _, r := range res.Regions {
		for _, z := range r.LeftOut {
			s.Printf("%s\n", s.Warn(fmt.Sprintf("zone %s of %s was left out: %s", z.Zone, r.Region, z.Error)))
		}
		for _, d := range r.Differences {
			s.Printf("\n%s %s: %s\n", r.Region, s.Bold(d.Key), d.Kind)
			for _, z := range r.Zones {
				s.Printf("  %s: %s\n", z, d.Zones[z])
			}
			switch {
			case d.Repaired != "":
				s.Printf("  %s\n", s.Good("repaired from zone "+d.Repaired))
			case d.Error != "":
				s.Printf("  %s\n", s.Bad("not repaired: "+d.Error))
			}
		}
	}
	if res.Equal {
		s.Printf("%s\n", s.Good("the zones hold the same"))
	}
	return nil
}

func newCacheModeCmd(a *app) *cobra.Command {
	var (
		r   control.CacheModeRequest
		out output
	)
	modes := []string{"read-write", "write-only", "read-only"}
	c := &cobra.Command{
		Use: "mode ZONE " + strings.Join(modes, "|"), Short: "Switch what a zone is used for, at run time", Args: cobra.ExactArgs(2), ValidArgsFunction: cobra.NoFileCompletions,
		Long: "A write-only zone takes every write and is read by nobody; a read-only one is\nread and takes no write. It returns when every running client of the\nregion knows.",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := cacheClient(cmd.Context(), a, out)
			if err != nil {
				return err
			}
			if r.Zone, r.Mode = args[0], args[1]; r.Zone == "" || r.Mode == "" {
				return usageError{errors.New("cache mode: name a zone and one of " + strings.Join(modes, ", "))}
			}
			st, err := client.CacheMode(cmd.Context(), r)
			if err != nil {
				return err
			}
			return printCacheStatus(a, out, st)
		},
	}
	c.Flags().StringVar(&r.Region, "region", "", "region of the zone; or write REGION/ZONE")
	out.flag(c, "table", "json", "yaml")
	return c
}

func newCacheReplicationCmd(a *app) *cobra.Command {
	var (
		r   control.CacheModeRequest
		out output
	)
	c := &cobra.Command{
		Use: "replication none|deletes|invalidate|values", Short: "Switch what the services tell other regions of their writes", Args: cobra.ExactArgs(1),
		Long: "deletes (the default) has other regions drop what is deleted here; invalidate\nhas them drop what is written here, too; values has them store it: a relay reads\nthe value from the region's own cache and sets it in the others.",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := cacheClient(cmd.Context(), a, out)
			if err != nil {
				return err
			}
			if r.Replication = args[0]; r.Replication == "" {
				return usageError{errors.New("cache replication: name one of none, deletes, invalidate, values")}
			}
			st, err := client.CacheMode(cmd.Context(), r)
			if err != nil {
				return err
			}
			return printCacheStatus(a, out, st)
		},
	}
	c.Flags().StringVar(&r.Region, "region", "", "one region only")
	out.flag(c, "table", "json", "yaml")
	return c
}
