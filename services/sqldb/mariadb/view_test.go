package mariadb

import "testing"

func TestGTIDs(t *testing.T) {
	cases := []struct {
		list string
		want gtid
		ok   bool
	}{
		{"", gtid{}, true},
		{"0-1-5", gtid{1, 5}, true},
		{"7-1-9,0-2-150", gtid{2, 150}, true},
		{"0-2-150,\n7-1-9", gtid{2, 150}, true},
		{"7-1-9", gtid{}, true},
		{"0-1", gtid{}, false},
		{"0-1-x", gtid{}, false},
		{"0-1-5-6", gtid{}, false},
		{"0-1--5", gtid{}, false},
	}
	for _, c := range cases {
		got, err := parsePosition(c.list)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%q: %v, %v", c.list, got, err)
		}
	}
	for g, want := range map[gtid]string{{}: "", {server: 3, seq: 9}: "0-3-9"} {
		if g.String() != want {
			t.Errorf("%#v is %q", g, g)
		}
	}
}

func FuzzGTIDs(f *testing.F) {
	f.Add("0-1-5")
	f.Add("0-2-150,7-1-9")
	f.Fuzz(func(t *testing.T, list string) {
		all, err := parseGTIDs(list)
		if err != nil {
			return
		}
		for _, g := range all {
			again, err := parsePosition(g.String())
			if err != nil || (g.seq > 0 && again != g) {
				t.Errorf("%q has %v, which comes back as %v, %v", list, g, again, err)
			}
		}
	})
}

func TestStrays(t *testing.T) {
	east := promotion{epoch: 1, region: "us-east", position: 1, server: 1}
	west := promotion{epoch: 2, region: "us-west", position: 100, server: 2}
	east2 := promotion{epoch: 2, region: "us-east", position: 100, server: 1}
	at := func(server, seq, applied uint64, p ...promotion) view {
		return view{binlog: gtid{server, seq}, applied: gtid{server, applied}, promotions: p}
	}
	cases := []struct {
		name         string
		own, history view
		want         uint64
	}{
		{"a new server", view{}, at(1, 50, 0, east), 0},
		{"a new server, before the first epoch's row", at(1, 1, 1), at(1, 50, 0, east), 0},
		{"a replica behind", at(1, 40, 40, east), at(1, 50, 0, east), 0},
		{"a replica up to date", at(1, 50, 50, east), at(1, 50, 0, east), 0},
		{"a primary that lost its tail", at(1, 55, 55, east), at(1, 50, 0, east), 5},
		{"an old primary that had nothing more", at(1, 100, 0, east), at(2, 130, 100, east, west), 0},
		{"an old primary behind", at(1, 90, 0, east), at(2, 130, 100, east, west), 0},
		{"an old primary with a tail", at(1, 105, 0, east), at(2, 130, 100, east, west), 5},
		{"an old primary's replica with its tail", at(1, 105, 105, east), at(2, 130, 100, east, west), 5},
		{"the tail is longer than the new history", at(1, 205, 0, east), at(2, 130, 100, east, west), 105},
		{"two promotions at once", at(2, 120, 100, east, west), at(1, 140, 0, east, east2), 20},
		{"a write on a replica", at(9, 51, 50, east), at(1, 60, 0, east), 1},
		{"a history without the own epoch", at(2, 120, 100, east, west), at(1, 140, 0, east), 20},
	}
	for _, c := range cases {
		if got := c.own.strays(c.history); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestLeader(t *testing.T) {
	with := func(p ...promotion) view { return view{promotions: p} }
	one, two := promotion{epoch: 1, region: "us-east"}, promotion{epoch: 2, region: "us-west"}
	tie := promotion{epoch: 2, region: "eu-west"}
	cases := []struct {
		name string
		s    seen
		want promotion
	}{
		{"nobody knows", seen{}, promotion{}},
		{"own", seen{own: with(one)}, one},
		{"a peer's is newer", seen{own: with(one), peers: map[string]view{"us-west": with(one, two)}}, two},
		{"a third knows of it", seen{own: with(one), peers: map[string]view{"eu-west": with(one, two)}}, two},
		{"two at once", seen{own: with(one, two), peers: map[string]view{"eu-west": with(one, tie)}}, tie},
		{"a new peer", seen{own: with(one), peers: map[string]view{"eu-west": {}}}, one},
	}
	for _, c := range cases {
		if got := c.s.leader(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFurthest(t *testing.T) {
	p := promotion{epoch: 1, region: "us-east", position: 1, server: 1}
	replica := func(seq, received uint64) view {
		return view{readOnly: true, binlog: gtid{1, seq}, applied: gtid{1, seq}, promotions: []promotion{p}, source: source{received: gtid{1, received}}}
	}
	s := seen{own: replica(10, 10), peers: map[string]view{"a": replica(9, 9), "b": replica(12, 12), "c": replica(11, 14)}}
	if r, n := s.furthest(); r != "c" || n != 14 {
		t.Errorf("furthest = %s, %d, want c, which has received 14", r, n)
	}
	s.own = replica(14, 14)
	if r, _ := s.furthest(); r != "" {
		t.Errorf("furthest = %s, and the own server has as much", r)
	}
	writable := replica(20, 20)
	writable.readOnly = false
	s.peers["d"] = writable
	if r, _ := s.furthest(); r != "" {
		t.Errorf("furthest = %s, a server that goes on", r)
	}
}
