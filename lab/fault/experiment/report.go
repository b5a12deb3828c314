package experiment

import (
	"fmt"
	"html/template"
	"io"
	"time"
)

// HTML writes the result as one page that needs nothing else.
func (res Result) HTML(w io.Writer) error {
	return page.Execute(w, view{res, res.dots(), pictureWidth, pictureHeight, res.x(res.FaultAtMS), res.x(res.FaultEndMS) - res.x(res.FaultAtMS)})
}

// Size of the picture, in pixels.
const (
	pictureWidth  = 900
	pictureHeight = 220
	pictureMargin = 20
)

type view struct {
	Result
	Dots              []dot
	Width, Height     int
	FaultX, FaultWide float64
}

// dot is one play in the picture: when it began and how long its start took.
type dot struct {
	X, Y  float64
	Class string
	Text  string
}

func (res Result) x(ms float64) float64 {
	if res.MS <= 0 {
		return pictureMargin
	}
	return pictureMargin + ms/res.MS*(pictureWidth-2*pictureMargin)
}

func (res Result) dots() []dot {
	most := 1.0
	for _, p := range res.Plays {
		most = max(most, p.DelayMS)
	}
	var out []dot
	for _, p := range res.Plays {
		d := dot{X: res.x(p.AtMS), Class: p.Group, Y: pictureHeight - pictureMargin - p.DelayMS/most*(pictureHeight-2*pictureMargin)}
		d.Text = fmt.Sprintf("%s, near %s, at %.1f s: start %.0f ms, %d rebuffers, answered by %s", p.Group, p.Region, p.AtMS/1000, p.DelayMS, p.Rebuffers, p.AnsweredBy)
		switch {
		case p.Error != "":
			d.Class, d.Y, d.Text = "failed", pictureMargin/2, d.Text+": "+p.Error
		case p.Rebuffers > 0:
			d.Class = "stalled"
		}
		out = append(out, d)
	}
	return out
}

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"figure": Figure,
	"pct":    func(v float64) string { return fmt.Sprintf("%.2f %%", 100*v) },
	"ms":     func(v float64) string { return fmt.Sprintf("%.0f ms", v) },
	"time":   func(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" },
	"rows": func(v view) []named {
		return []named{{"control", v.Groups[control]}, {"experiment", v.Groups[treated]}, {"before it", v.Baseline}, {"after it", v.Recovery}}
	},
}).Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{{.Experiment.Name}}: {{.Verdict}}</title>
<style>
:root{color-scheme:light dark;--line:light-dark(#ddd,#444);--dim:light-dark(#666,#aaa)}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}
.wide{overflow-x:auto;overflow-wrap:normal}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .75rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
.holds{color:light-dark(#087f23,#6fdc8c)}.fails,.aborted{color:light-dark(#b3261e,#ff8a80)}.inconclusive{color:light-dark(#8a6d00,#ffd54f)}
svg{background:light-dark(#fafafa,#1c1c1c);border:1px solid var(--line);box-sizing:border-box;width:100%;min-width:40rem}
.broken{fill:light-dark(#fde8e6,#4a2320)}
.dot.control{fill:#7a8899}.dot.experiment{fill:light-dark(#1a73e8,#8ab4f8)}.dot.failed{fill:light-dark(#b3261e,#ff8a80)}.dot.stalled{fill:#e08600}
small{color:var(--dim)}
@media print{:root{color-scheme:light}svg{min-width:0;print-color-adjust:exact}.wide{overflow:visible}td,th{white-space:normal}tr,svg{break-inside:avoid}}
</style>
<h1>{{.Experiment.Title}}</h1>
<p><b class="{{.Verdict}}">{{.Verdict}}</b>: {{.Reason}}. Confidence {{pct .Confidence}}.</p>
<p>{{.Experiment.Claim}}</p>
<div class="wide"><svg viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-label="Plays over time">
<rect x="{{.FaultX}}" y="0" width="{{.FaultWide}}" height="{{.Height}}" class="broken"/>
{{range .Dots}}<circle class="dot {{.Class}}" cx="{{printf "%.1f" .X}}" cy="{{printf "%.1f" .Y}}" r="3"><title>{{.Text}}</title></circle>
{{end}}</svg></div>
<p><small>Each dot is a play: from left to right when it began, the higher the longer its start took. Blue is the experiment group, grey the control group, orange stalled, red failed; the fault phase is shaded.</small></p>
<div class="wide"><table><tr><th>group</th><th>plays</th><th>failed</th><th>error ratio (95 %)</th><th>rebuffer ratio</th><th>starts/s</th><th>p50</th><th>p99</th></tr>
{{range rows .}}<tr><td>{{.Name}}</td><td>{{.Plays}}</td><td>{{.Failed}}</td><td>{{pct .ErrorRatio.Value}} ({{pct .ErrorRatio.Low}} – {{pct .ErrorRatio.High}})</td><td>{{pct .RebufferRatio}}</td><td>{{printf "%.2f" .StartsPerSecond}}</td><td>{{ms .P50MS}}</td><td>{{ms .P99MS}}</td></tr>
{{end}}</table></div>
<div class="wide"><table><tr><th>check</th><th>seen</th><th>wanted</th><th></th></tr>
{{range .Checks}}<tr><td>{{.Name}}</td><td>{{figure .Value}}</td><td>{{.Bound}}</td><td>{{if .OK}}<span class="holds">✓</span>{{else}}<span class="fails">✗</span>{{end}}</td></tr>
{{end}}</table></div>
<div class="wide"><table><tr><th>fault</th><th>target</th><th>began</th><th>until</th></tr>
{{range .Faults}}<tr><td>{{.Kind}} <small>{{.ID}}</small></td><td>{{.Target}}{{if .To}} – {{.To}}{{end}}</td><td>{{time .Began}}</td><td>{{if not .Until.IsZero}}{{time .Until}}{{end}}</td></tr>
{{end}}</table></div>
<p>The experiment group's error ratio exceeds the control group's by {{pct .ErrorDifference.Value}} ({{pct .ErrorDifference.Low}} to {{pct .ErrorDifference.High}}); starts as much slower come by chance with p = {{printf "%.3f" .SlowerP}}.</p>
<p><small>Seed {{.Experiment.Seed}}, begun {{time .Started}}. {{.Statistics}}.</small></p>
</html>
`))

// named is a row of the table of figures.
type named struct {
	Name string
	Figures
}
