package record

import (
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

// page is the HTML of a record. It needs nothing from anywhere else.
var page = template.Must(template.New("record").Funcs(template.FuncMap{"value": Value}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{{.R.Kind}} {{.R.Subject}} {{.R.ID}}</title>
<style>
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}
h1{font-size:1.4rem;margin-bottom:.2rem}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem .25rem 0;text-align:left;border-bottom:1px solid #94a3b855}
td.n{text-align:right;font-variant-numeric:tabular-nums}.better{color:light-dark(#15803d,#4ade80)}.worse{color:light-dark(#dc2626,#f87171)}.dim{opacity:.7}
.wide{overflow-x:auto;overflow-wrap:normal}svg{width:100%;min-width:44rem;height:auto}
@media print{:root{color-scheme:light}svg{min-width:0;print-color-adjust:exact}.wide{overflow:visible}tr,svg{break-inside:avoid}}
</style></head><body>
<h1>{{.R.Kind}}{{with .R.Subject}} of {{.}}{{end}}: {{.R.State}}</h1>
<p class="dim">{{.R.ID}} · {{.Started}} · {{value .R.Seconds "s"}}</p>
<p>{{.R.Summary}}</p>
<div class="wide">{{.SVG}}</div>
<h2>Figures</h2>
<div class="wide"><table><tr><th>figure</th><th>value</th>{{if .Changes}}<th>before ({{.Before}})</th><th></th>{{end}}</tr>
{{range .Rows}}<tr><td>{{.Name}}</td><td class="n">{{.Value}}</td>{{if $.Changes}}<td class="n">{{.Before}}</td><td class="{{.Verdict}}">{{.Verdict}}</td>{{end}}</tr>
{{end}}</table></div>
{{if .R.Phases}}<h2>Phases</h2><div class="wide"><table><tr><th>phase</th><th>from</th><th>took</th><th></th></tr>
{{range .Phases}}<tr><td>{{.Name}}</td><td class="n">{{.From}}</td><td class="n">{{.Took}}</td><td>{{.Text}}</td></tr>
{{end}}</table></div>{{end}}
{{if .R.Notes}}<h2>Notes</h2><ul>{{range .R.Notes}}<li>{{.}}</li>{{end}}</ul>{{end}}
</body></html>
`))

type row struct{ Name, Value, Before, Verdict string }

type phaseRow struct{ Name, From, Took, Text string }

func rows(r Record, changes []Change) []row {
	var out []row
	for _, f := range r.Figures {
		x := row{Name: f.Name, Value: Value(f.Value, f.Unit)}
		for _, c := range changes {
			if c.Name == f.Name {
				x.Before, x.Verdict = Value(c.Before, c.Unit), c.Verdict
			}
		}
		out = append(out, x)
	}
	return out
}

func phases(r Record) []phaseRow {
	var out []phaseRow
	for _, p := range r.Phases {
		out = append(out, phaseRow{p.Name, Value(p.From, "s"), Value(p.To-p.From, "s"), p.Text})
	}
	return out
}

// HTML writes a record as a page of its own; before may be nil.
func HTML(w io.Writer, r Record, before *Record) error {
	v := struct {
		R       Record
		Started string
		SVG     template.HTML
		Rows    []row
		Changes []Change
		Before  string
		Phases  []phaseRow
	}{R: r, Started: r.Started.Format(time.RFC3339), SVG: template.HTML(SVG(r)), Phases: phases(r)} // every text in it is escaped
	if before != nil {
		v.Changes, v.Before = Compare(r, *before), before.ID
	}
	v.Rows = rows(r, v.Changes)
	if err := page.Execute(w, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// barWidth of bars in text, columns.
const barWidth = 50

// Markdown writes a record as Markdown, its timeline as bars of text.
func Markdown(w io.Writer, r Record, before *Record) error {
	var b strings.Builder
	of := ""
	if r.Subject != "" {
		of = " of " + r.Subject
	}
	fmt.Fprintf(&b, "# %s%s: %s\n\n%s\n\n`%s` · %s · %s\n\n", r.Kind, of, r.State, r.Summary, r.ID, r.Started.Format(time.RFC3339), Value(r.Seconds(), "s"))
	var changes []Change
	if before != nil {
		changes = Compare(r, *before)
		fmt.Fprintf(&b, "| figure | value | before (`%s`) | |\n|---|---:|---:|---|\n", before.ID)
	} else {
		b.WriteString("| figure | value |\n|---|---:|\n")
	}
	for _, x := range rows(r, changes) {
		if before != nil {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(x.Name), x.Value, x.Before, x.Verdict)
		} else {
			fmt.Fprintf(&b, "| %s | %s |\n", cell(x.Name), x.Value)
		}
	}
	b.WriteString("\n```\n")
	b.WriteString(Timeline(r, barWidth))
	b.WriteString("```\n")
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\n- %s", n)
	}
	if len(r.Notes) > 0 {
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell keeps a text within a cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

// Timeline draws phases and series as bars of text, one a line.
func Timeline(r Record, width int) string {
	seconds := max(r.Seconds(), lastPoint(r), 0.001)
	var b strings.Builder
	for _, p := range r.Phases {
		fmt.Fprintf(&b, "%-18s %s %s\n", clip(p.Name), p.Bar(seconds, width), Value(p.To-p.From, "s"))
	}
	for _, s := range r.Series {
		bars, top := s.Bars(seconds, width)
		fmt.Fprintf(&b, "%-18s %s max %s\n", clip(s.Name), bars, Value(top, s.Unit))
	}
	fmt.Fprintf(&b, "%-18s 0 s%*s\n", "", width-3, Value(seconds, "s"))
	for _, m := range r.Marks {
		sign := "·"
		if m.Bad {
			sign = "!"
		}
		fmt.Fprintf(&b, "%s %8.2f s  %s\n", sign, m.At, m.Text)
	}
	return b.String()
}
