package player

import "time"

// hands are goroutines that do what takes a deep stack, for those that live as
// long as a play and wait nearly all of that. A stack grows to what its deepest
// call needs, some 32 KiB for a request with a handshake, and shrinks slowly; the
// plays share those of the hands, which stay for the next task: a new goroutine
// would grow its stack anew, each time by copying it.
type hands chan task

type task struct {
	do   func()
	done chan struct{}
}

// handsWait is how long a goroutine waits for the next task.
const handsWait = time.Second

// apart has a goroutine of the hands run f, and waits for it.
func (h hands) apart(f func()) {
	t := task{f, make(chan struct{})}
	select {
	case h <- t:
	default: // nobody waits for one
		go h.work(t)
	}
	<-t.done
}

func (h hands) work(t task) {
	idle := time.NewTimer(handsWait)
	defer idle.Stop()
	for {
		t.run()
		idle.Reset(handsWait)
		select {
		case t = <-h:
		case <-idle.C:
			return
		}
	}
}

func (t task) run() {
	defer close(t.done)
	t.do()
}
