package media

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func twoPathways() Steering {
	return Steering{Server: "steering.json", Pathways: []Pathway{{"r.a.oca.1", "http://oca-1-a.localhost:1/tok/t/x/1/"}, {"r.b.oca.1", "http://oca-1-b.localhost:2/tok/t/x/1/"}}}
}

// children are the elements that a presentation's parts may have, in the order
// that the schema lays down (ISO/IEC 23009-1, DASH-MPD.xsd), and attributes each
// must have. ContentSteering is of a later edition (ETSI TS 103 998, 5).
var children = map[string]struct{ elements, attributes []string }{
	"MPD":             {[]string{"BaseURL", "ContentSteering", "Period"}, []string{"xmlns", "profiles", "type", "mediaPresentationDuration", "minBufferTime"}},
	"BaseURL":         {nil, nil},
	"ContentSteering": {nil, []string{"defaultServiceLocation"}},
	"Period":          {[]string{"AdaptationSet"}, []string{"duration"}},
	"AdaptationSet":   {[]string{"Representation"}, []string{"mimeType", "contentType", "segmentAlignment"}},
	"Representation":  {[]string{"BaseURL", "SegmentBase", "SegmentList"}, []string{"id", "bandwidth", "codecs"}},
	"SegmentList":     {[]string{"Initialization", "SegmentTimeline", "SegmentURL"}, []string{"timescale"}},
	"SegmentTimeline": {[]string{"S"}, nil},
	"S":               {nil, []string{"d"}},
	"SegmentBase":     {[]string{"Initialization"}, []string{"indexRange"}},
	"Initialization":  {nil, []string{"range"}},
	"SegmentURL":      {nil, []string{"mediaRange"}},
}

// wellFormed checks a presentation's elements, their order and attributes.
func wellFormed(mpd []byte) error {
	d := xml.NewDecoder(strings.NewReader(string(mpd)))
	type open struct {
		name string
		at   int // of the last child among those allowed
	}
	var stack []open
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := tok.(type) {
		case xml.StartElement:
			name := e.Name.Local
			rule, ok := children[name]
			if !ok || e.Name.Space != "urn:mpeg:dash:schema:mpd:2011" {
				return fmt.Errorf("<%s> of %q", name, e.Name.Space)
			}
			for _, a := range rule.attributes {
				if !slices.ContainsFunc(e.Attr, func(x xml.Attr) bool { return x.Name.Local == a }) {
					return fmt.Errorf("<%s> without %s", name, a)
				}
			}
			if len(stack) > 0 {
				p := &stack[len(stack)-1]
				at := slices.Index(children[p.name].elements, name)
				if at < p.at {
					return fmt.Errorf("<%s> in <%s>, not there or too late", name, p.name)
				}
				p.at = at
			}
			stack = append(stack, open{name: name})
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		}
	}
}

func TestSteeredDASH(t *testing.T) {
	x := testIndex(t)
	for i := range x.Tracks {
		x.Tracks[i].Sidx = Segment{Offset: x.Tracks[i].Init.Size, Size: 64}
	}
	mpd := x.SteeredDASH(twoPathways())
	if err := wellFormed(mpd); err != nil {
		t.Errorf("%v\n%s", err, mpd)
	}
	s := string(mpd)
	if strings.Count(s, "<SegmentList") != len(x.Tracks) || strings.Contains(s, "SegmentBase") || !strings.Contains(s, "isoff-main") {
		t.Errorf("segments are not listed:\n%s", s)
	}
	for _, want := range []string{
		`<BaseURL serviceLocation="r.a.oca.1">http://oca-1-a.localhost:1/tok/t/x/1/</BaseURL>`, `<BaseURL serviceLocation="r.b.oca.1">http://oca-1-b.localhost:2/tok/t/x/1/</BaseURL>`,
		`<ContentSteering defaultServiceLocation="r.a.oca.1" queryBeforeStart="false">steering.json</ContentSteering>`,
	} {
		if strings.Count(s, want) != 1 {
			t.Errorf("not once: %s", want)
		}
	}
	byIndex := twoPathways()
	byIndex.Indexed = true
	indexed := x.SteeredDASH(byIndex)
	if err := wellFormed(indexed); err != nil {
		t.Errorf("%v\n%s", err, indexed)
	}
	if s := string(indexed); strings.Contains(s, "<SegmentList") || strings.Count(s, "<SegmentBase") != len(x.Tracks) || !strings.Contains(s, "isoff-on-demand") || strings.Count(s, "serviceLocation") != 2 {
		t.Errorf("segments are not found by the index:\n%s", s)
	}
	if plain := string(x.DASH()); strings.Contains(plain, "serviceLocation") || strings.Contains(plain, "ContentSteering") {
		t.Errorf("the static presentation is steered:\n%s", plain)
	}
	if got := string(x.Only(func(tr Track) bool { return tr.Kind == KindAudio }).SteeredDASH(twoPathways())); strings.Contains(got, "video") || len(x.Tracks) != 3 {
		t.Errorf("only audio was wanted:\n%s", got)
	}
}

func TestSteeredHLS(t *testing.T) {
	x := testIndex(t)
	master := string(x.SteeredHLS(twoPathways()))
	if !strings.HasPrefix(master, "#EXTM3U\n") || strings.Count(master, "#EXT-X-CONTENT-STEERING:") != 1 {
		t.Errorf("%s", master)
	}
	lines := strings.Split(strings.TrimSpace(master), "\n")
	seen := map[string]int{}
	for i, l := range lines {
		switch {
		case strings.HasPrefix(l, "#EXT-X-MEDIA:"):
			if !strings.Contains(l, `URI="http://oca-1-`) {
				t.Errorf("%s", l)
			}
		case strings.HasPrefix(l, "#EXT-X-STREAM-INF:"):
			_, id, _ := strings.Cut(l, `PATHWAY-ID="`)
			id = strings.TrimSuffix(id, `"`)
			seen[id]++
			// The group of its own pathway, and a playlist there.
			site := strings.Split(id, ".")[1]
			if !strings.Contains(l, `AUDIO="audio-`+id+`"`) || !strings.HasPrefix(lines[i+1], "http://oca-1-"+site+".localhost") {
				t.Errorf("%s\n%s", l, lines[i+1])
			}
		}
	}
	if len(seen) != 2 || seen["r.a.oca.1"] != 2 || seen["r.b.oca.1"] != 2 {
		t.Errorf("variants by pathway: %v", seen)
	}
	if plain := string(x.HLSMaster()); strings.Contains(plain, "PATHWAY") {
		t.Errorf("the static playlist is steered:\n%s", plain)
	}
}
