package record

// Change of a figure against an earlier record.
type Change struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit,omitempty"`
	Before float64 `json:"before"`
	Now    float64 `json:"now"`
	// Verdict is better, worse, same, or changed where neither way is better.
	Verdict string `json:"verdict"`
}

// Compare lists the figures that both records have, in the order of the newer.
func Compare(now, before Record) []Change {
	out := []Change{}
	for _, f := range now.Figures {
		b, ok := before.Figure(f.Name)
		if !ok {
			continue
		}
		c := Change{Name: f.Name, Unit: f.Unit, Before: b.Value, Now: f.Value, Verdict: "changed"}
		switch {
		case f.Value == b.Value:
			c.Verdict = "same"
		case f.Better == "less" && f.Value < b.Value, f.Better == "more" && f.Value > b.Value:
			c.Verdict = "better"
		case f.Better != "":
			c.Verdict = "worse"
		}
		out = append(out, c)
	}
	return out
}
