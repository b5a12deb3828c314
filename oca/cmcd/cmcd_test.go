package cmcd

import (
	"maps"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want map[string]any
		bad  int
	}{
		{`br=3200,bs,cid="faec5fc2-ac30-11ea-bb37-0242ac130002",d=4004,dl=18500,nor="..%2F300kbps%2Ftrack.m4v",nrr="12323-48763",ot=v,pr=1.08,rtp=12000,sf=d,sid="6e2fb550-c457-11e9-bb97-0800200c9a66",st=v,su,tb=6000`,
			map[string]any{"br": int64(3200), "bs": true, "cid": "faec5fc2-ac30-11ea-bb37-0242ac130002", "d": int64(4004), "dl": int64(18500), "nor": "..%2F300kbps%2Ftrack.m4v", "nrr": "12323-48763",
				"ot": "v", "pr": 1.08, "rtp": int64(12000), "sf": "d", "sid": "6e2fb550-c457-11e9-bb97-0800200c9a66", "st": "v", "su": true, "tb": int64(6000)}, 0},
		{`pr=1,com.example-key="x,y=\"z\\"`, map[string]any{"pr": 1.0, "com.example-key": `x,y="z\`}, 0},
		// Version 2: lists by kind of object, events, tri-state booleans.
		{`v=2,br=(3200;v 128;a),bs=?0,e=ps,ts=1764158400000,sta=p,ltc=3200,nor=("a.m4s" "b)c.m4s"),sn=7`,
			map[string]any{"v": int64(2), "br": "(3200;v 128;a)", "bs": false, "e": "ps", "ts": int64(1764158400000), "sta": "p", "ltc": int64(3200), "nor": `("a.m4s" "b)c.m4s")`, "sn": int64(7)}, 0},
		{`bs=true, su=false`, map[string]any{"bs": true, "su": false}, 0},
		{``, map[string]any{}, 0},
		{`br=abc,d=2000`, map[string]any{"d": int64(2000)}, 1},
		{`br=-1,bl`, map[string]any{}, 2},
		{`sid="open,d=1`, map[string]any{}, 1},
		{`sid="a"b,d=1`, map[string]any{"d": int64(1)}, 1},
		{`=5,d=1`, map[string]any{"d": int64(1)}, 1},
		{`d=,st=v`, map[string]any{"st": "v"}, 1},
		{`,,d=1`, map[string]any{"d": int64(1)}, 2},
		{"sid=\"a\nb\",d=1", map[string]any{"d": int64(1)}, 1},
		{`d=1,d=2`, map[string]any{"d": int64(2)}, 0},
		{strings.Repeat("a", MaxLength+1), nil, 1},
		{`d=99999999999999999999`, map[string]any{}, 1},
	} {
		got := parse(c.text)
		if !maps.Equal(got.Values, c.want) || got.Bad != c.bad {
			t.Errorf("%.80q: %v, %d bad; want %v, %d", c.text, got.Values, got.Bad, c.want, c.bad)
		}
	}
}

func TestWhereItComesFrom(t *testing.T) {
	if d, ok := FromQuery("a=b&CMCD=sid%3D%22x%22%2Cbr%3D5&c=d"); !ok || d.Values["sid"] != "x" || d.Values["br"] != int64(5) || d.Bad != 0 {
		t.Errorf("query: %v %v", d, ok)
	}
	if d, ok := FromQuery("CMCD=%zz"); !ok || d.Bad != 1 {
		t.Errorf("a broken query: %v %v", d, ok)
	}
	for _, q := range []string{"", "XCMCD=a", "cmcd=a"} {
		if _, ok := FromQuery(q); ok {
			t.Errorf("%q has CMCD", q)
		}
	}
	h := map[string]string{"CMCD-Object": "br=5", "CMCD-Session": `sid="x"`}
	if d, ok := FromHeaders(func(n string) string { return h[n] }); !ok || d.Values["sid"] != "x" || d.Values["br"] != int64(5) {
		t.Errorf("headers: %v %v", d, ok)
	}
	if _, ok := FromHeaders(func(string) string { return "" }); ok {
		t.Error("no header is CMCD")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`br=3200,bs,cid="a\"b",pr=1.08,nor=("a" "b")`)
	f.Add(`sid="open`)
	f.Add(`,=,,"(`)
	f.Add(`br=(1;v 2;a),e=ps`)
	f.Fuzz(func(t *testing.T, s string) {
		d := parse(s)
		if len(d.Values) > maxKeys || d.Bad < 0 || d.Bad > len(s)+1 {
			t.Fatalf("%q: %d keys, %d bad", s, len(d.Values), d.Bad)
		}
		for k, v := range d.Values {
			if k == "" || !fits(kindOf(k), v) {
				if n, ok := v.(float64); !ok || kindOf(k) != decimal || n != n {
					t.Fatalf("%q: %s = %v (%T)", s, k, v, v)
				}
			}
		}
		if q, ok := FromQuery(s); ok && len(q.Values) > maxKeys {
			t.Fatal(q)
		}
	})
}

// parse reads one text of pairs.
func parse(s string) Data {
	var d Data
	d.add(s)
	return d
}
