package lab

import "testing"

func TestSQLHolder(t *testing.T) {
	names := []string{"east", "west", "north"}
	type answers = map[string]bool
	for _, c := range []struct {
		name           string
		primary, fence answers
		region         string
		h              holding
		none           bool
	}{
		{"one takes writes", answers{"east": false, "west": true, "north": false}, answers{}, "west", serving, false},
		{"though another does not answer", answers{"west": true, "north": false}, answers{}, "west", serving, false},
		{"though the old one is still fenced", answers{"east": false, "west": true, "north": false}, answers{"east": true}, "west", serving, false},
		{"one does not answer", answers{"east": false, "north": false}, answers{}, "west", silent, false},
		{"who was fenced may have a successor that does not answer", answers{"east": false, "north": false}, answers{"east": true}, "west", silent, false},
		{"a move was cut short", answers{"east": false, "west": false, "north": false}, answers{"west": true}, "west", fenced, false},
		{"all are replicas", answers{"east": false, "west": false, "north": false}, answers{}, "", serving, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			region, h, ok := sqlHolder(names, c.primary, c.fence)
			if region != c.region || h != c.h || ok == c.none {
				t.Errorf("%q, %v, %v, want %q, %v, %v", region, h, ok, c.region, c.h, !c.none)
			}
		})
	}
}
