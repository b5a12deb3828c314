package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
)

func newTraceCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "trace ID", Short: "The spans of one play as a waterfall", Args: cobra.ExactArgs(1),
		Long: "Collects the spans of one play, from the player over gateway, APIs and stores to\nthe appliance, and draws them over time. The id is trace_id of flix play -o\njson.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			t, err := client.Trace(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, t)
			}
			printTrace(a.env.out(), t)
			return nil
		},
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

// printTrace draws the spans as a tree over a common time axis.
func printTrace(s render.Screen, t control.Trace) {
	children := map[string][]control.Span{}
	ids := map[string]bool{}
	for _, x := range t.Spans {
		ids[x.SpanID] = true
	}
	first, last := t.Spans[0].StartUnixNano, t.Spans[0].EndUnixNano
	for _, x := range t.Spans {
		parent := x.ParentID
		if !ids[parent] { // its parent was not kept
			parent = ""
		}
		children[parent] = append(children[parent], x)
		first, last = min(first, x.StartUnixNano), max(last, x.EndUnixNano)
	}
	width := s.Columns()
	if width < 80 {
		width = 110
	}
	bar := max(20, width-86)
	s.Printf("trace %s · %d spans · %s\n", t.ID, len(t.Spans), render.MS(float64(last-first)/float64(time.Millisecond)))
	w := waterfall{s: s, children: children, first: first, span: max(1, last-first), bar: bar}
	w.draw("", 0)
}

type waterfall struct {
	s           render.Screen
	children    map[string][]control.Span
	first, span int64
	bar         int
}

func (w waterfall) draw(parent string, depth int) {
	xs := w.children[parent]
	slices.SortFunc(xs, func(a, b control.Span) int { return int(a.StartUnixNano - b.StartUnixNano) })
	for _, x := range xs {
		w.line(x, depth)
		if x.SpanID != "" && x.SpanID != parent {
			w.draw(x.SpanID, depth+1)
		}
	}
}

func (w waterfall) line(x control.Span, depth int) {
	from := int(float64(x.StartUnixNano-w.first) / float64(w.span) * float64(w.bar))
	length := int(float64(x.EndUnixNano-x.StartUnixNano) / float64(w.span) * float64(w.bar))
	from = max(0, min(from, w.bar-1))
	length = max(1, min(length, w.bar-from))
	name := strings.Repeat("  ", depth) + strings.TrimPrefix(x.Name, "/flix.")
	block := strings.Repeat("▇", length)
	if x.Error != "" {
		block = w.s.Bad(block)
	} else {
		block = w.s.Good(block)
	}
	w.s.Printf("%-44s %-28s %9s |%s%s\n", clip(name, 44), clip(x.Instance, 28), render.MS(float64(x.EndUnixNano-x.StartUnixNano)/float64(time.Millisecond)), strings.Repeat(" ", from), block)
	if x.Error != "" {
		w.s.Printf("%s%s\n", strings.Repeat("  ", depth+1), w.s.Bad(fmt.Sprintf("! %s", x.Error)))
	}
}

// clip shortens a text to n columns.
func clip(t string, n int) string {
	r := []rune(t)
	if len(r) <= n {
		return t
	}
	return string(r[:n-1]) + "…"
}
