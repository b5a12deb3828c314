package lab

import (
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// Limits that do not go together are refused when they are set: the instances
// would keep the old ones, and only their logs say so.
func TestLimitsThatDoNotFit(t *testing.T) {
	shown := func(of ...string) control.Command {
		c := control.Command{Properties: map[string]string{"limit.algorithm": "none", "limit.initial": "0", "limit.min": "0", "limit.max": "0", "execution.isolation.semaphore.maxConcurrentRequests": "256"}}
		for k := 0; k < len(of); k += 2 {
			c.Properties[of[k]] = of[k+1]
		}
		return c
	}
	for _, tt := range []struct {
		name string
		has  control.Command
		set  map[string]string
		want string // of the error
	}{
		{"X", shown(), map[string]string{"limit": "gradient2"}, ""},
		{"X", shown(), map[string]string{"limit": "gradient2", "limit_min": "500", "limit_max": "10"}, "min 500 is above max 10"},
		{"X", shown("limit.algorithm", "vegas", "limit.min", "500"), map[string]string{"limit_max": "10"}, "min 500 is above max 10"},
		{"X", shown("limit.algorithm", "vegas", "limit.min", "500"), map[string]string{"limit_max": "10", "limit_min": ""}, ""},
		{"X", shown("limit.algorithm", "aimd"), map[string]string{"limit_initial": "5"}, "initial 5 is not between min 20"},
		{"X", shown("limit.algorithm", "aimd", "limit.min", "9", "limit.max", "3"), map[string]string{"timeout": "1s"}, ""},
		{everyCommand, shown("limit.algorithm", "aimd", "limit.min", "500"), map[string]string{"limit": "aimd", "limit_max": "30"}, ""},
		{everyCommand, shown(), map[string]string{"limit": "aimd", "limit_min": "500", "limit_max": "30"}, "min 500 is above max 30"},
	} {
		props, err := commandProperties(control.CommandRequest{CommandQuery: control.CommandQuery{Name: tt.name}, Properties: tt.set})
		if err != nil {
			t.Fatal(err)
		}
		err = fitting(tt.name, tt.has, props)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s %v: %v", tt.name, tt.set, err)
		case tt.want != "" && (services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s %v: %v, want %q", tt.name, tt.set, err, tt.want)
		}
	}
}
