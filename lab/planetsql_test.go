package lab

import "testing"

func TestSQLHolder(t *testing.T) {
	names := []string{"east", "west", "north"}
	type answers = map[string]bool
	for _, c := range []struct {
		name    string
		primary answers
		region  string
		h       holding
		none    bool
	}{
		{"one takes writes", answers{"east": false, "west": true, "north": false}, "west", serving, false},
		{"though another does not answer", answers{"west": true, "north": false}, "west", serving, false},
		{"one does not answer", answers{"east": false, "north": false}, "west", silent, false},
		{"nobody takes writes", answers{"east": false, "west": false, "north": false}, "", serving, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			region, h, ok := sqlHolder(names, c.primary)
			if region != c.region || h != c.h || ok == c.none {
				t.Errorf("%q, %v, %v, want %q, %v, %v", region, h, ok, c.region, c.h, !c.none)
			}
		})
	}
}
