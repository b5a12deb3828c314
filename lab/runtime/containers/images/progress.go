package images

import "sync"

// progress hands steps over, one at a time.
type progress struct{ mu sync.Mutex }

func (p *progress) tell(to func(Step), s Step) {
	if to == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	to(s)
}
