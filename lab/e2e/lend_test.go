package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRegionWithoutAService takes the only instance of a service away from a
// region: its gateways pass requests on to a region that is whole until it is
// back, and whoever watches evacuates it.
func TestRegionWithoutAService(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			rt.seldom(t)
			l := up(t, rt, "--regions", "2")
			answered := func(by, near string) {
				t.Helper()
				await(t, rt.patience(20*time.Second), by+" to answer clients of "+near, func() error {
					r := l.flix(append([]string{"play", "-o", "json"}, quick(near)...)...)
					if r.code != 0 {
						return fmt.Errorf("%s", r.stderr)
					}
					var p playReport
					decode(t, r, &p)
					if p.Region != by {
						return fmt.Errorf("%s answers", p.Region)
					}
					return nil
				})
			}
			for _, name := range []string{"us-east/a/license/1", "us-west/a/sql/1"} {
				near, other := "us-east", "us-west"
				if !strings.HasPrefix(name, near) {
					near, other = other, near
				}
				l.must("lab", "kill", name)
				answered(other, near)
				l.must("lab", "start", name)
				answered(near, near)
			}
			l.must("failover", "watch", "on")
			l.must("lab", "kill", "us-east/a/license/1")
			await(t, rt.patience(60*time.Second), "us-east to be evacuated", func() error {
				all := l.evacuations()
				if len(all) != 1 || all[0].State == "running" {
					return fmt.Errorf("%+v", all)
				}
				return nil
			})
			if all := l.evacuations(); all[0].State != "done" || all[0].PlaysFailed != 0 {
				t.Errorf("failover status lists %+v", all)
			}
			answered("us-west", "us-east")
		})
	}
}
