package lookup

import (
	"strconv"
	"sync"
	"testing"
)

// Whoever looks at what is registered never finds an instance that is nobody.
func TestRegisteredIsSomebody(t *testing.T) {
	c := New(Config{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c.regMu.Lock()
			for id, r := range c.regs {
				r.mu.Lock()
				if r.inst.ID != id {
					t.Errorf("%s is found as %+v", id, r.inst)
				}
				r.mu.Unlock()
			}
			c.regMu.Unlock()
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for n := range 1000 {
		id := strconv.Itoa(n)
		if err := c.Register(Instance{ID: id, VIP: "kv", Host: "h"}); err != nil {
			t.Fatal(err)
		}
		c.Forget(id)
	}
	close(stop)
	wg.Wait()
}
