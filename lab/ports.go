package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"sync"
	"syscall"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Ports are taken below the range the kernel hands out by itself, in slots of
// consecutive ports that belong to one region, so that where an address is can
// be read off its port.
const (
	portFirst = 20000
	portLast  = 31999
	slotSize  = 64
	slots     = (portLast - portFirst + 1) / slotSize
)

// ports gives instances their ports and remembers them in the journal, so that
// an instance keeps its own over every restart.
type ports struct {
	mu      sync.Mutex
	home    string // folder of all labs
	name    string
	address string
	j       *journal.Journal

	slots map[int]string // first port → region
	used  map[int]string // port → "instance port-name"
	ports map[string]int // the inverse

	held map[int]io.Closer // the slots that labs of other homes see are taken
}

type slotData struct {
	Region string `json:"region"`
}

type portData struct {
	Port int `json:"port"`
}

func newPorts(home, name, address string, j *journal.Journal) (*ports, error) {
	p := &ports{home: home, name: name, address: address, j: j, slots: map[int]string{}, used: map[int]string{}, ports: map[string]int{}, held: map[int]io.Closer{}}
	for _, e := range j.List(journal.Slot) {
		var d slotData
		first, err := strconv.Atoi(e.ID)
		if err = errors.Join(err, json.Unmarshal(e.Data, &d)); err != nil {
			return nil, fmt.Errorf("journal: slot %s: %w", e.ID, err)
		}
		p.slots[first] = d.Region
	}
	for _, e := range j.List(journal.Port) {
		var d portData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return nil, fmt.Errorf("journal: port %s: %w", e.ID, err)
		}
		p.used[d.Port], p.ports[e.ID] = e.ID, d.Port
	}
	return p, nil
}

// ranges lists the slots for runtime.World.
func (p *ports) ranges() []runtime.PortRange {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]runtime.PortRange, 0, len(p.slots))
	for first, region := range p.slots {
		out = append(out, runtime.PortRange{First: first, Last: first + slotSize - 1, Region: region})
	}
	return out
}

// of returns the ports of an instance, assigning those it does not have yet.
func (p *ports) of(i topology.Instance) (map[string]int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[string]int, len(i.Ports))
	for _, name := range i.Ports {
		id := i.ID + " " + name
		n, ok := p.ports[id]
		if !ok {
			var err error
			if n, err = p.take(i.Region, id); err != nil {
				return nil, err
			}
		}
		out[name] = n
	}
	return out, nil
}

// release forgets the ports of an instance.
func (p *ports) release(i topology.Instance) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range i.Ports {
		id := i.ID + " " + name
		n, ok := p.ports[id]
		if !ok {
			continue
		}
		if err := p.j.Delete(journal.Port, id); err != nil {
			return err
		}
		delete(p.ports, id)
		delete(p.used, n)
	}
	return nil
}

// releaseRegion gives back the slots of a region that is gone.
func (p *ports) releaseRegion(region string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for first, r := range p.slots {
		if r != region {
			continue
		}
		if err := p.j.Delete(journal.Slot, strconv.Itoa(first)); err != nil {
			return err
		}
		delete(p.slots, first)
		p.letGo(first)
	}
	return nil
}

func (p *ports) take(region, id string) (int, error) {
	for first, r := range p.slots {
		if r != region {
			continue
		}
		for n := first; n < first+slotSize; n++ {
			if _, taken := p.used[n]; !taken && p.free(n) {
				return n, p.assign(n, id)
			}
		}
	}
	first, err := p.newSlot(region)
	if err != nil {
		return 0, err
	}
	for n := first; n < first+slotSize; n++ {
		if p.free(n) {
			return n, p.assign(n, id)
		}
	}
	return 0, services.Errorf(services.Exhausted, "no port of %d to %d is free for %s", first, first+slotSize-1, id)
}

func (p *ports) assign(n int, id string) error {
	if err := p.j.Put(journal.Port, id, portData{n}); err != nil {
		return err
	}
	p.used[n], p.ports[id] = id, n
	return nil
}

// free says whether a port can be bound now.
func (p *ports) free(n int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(p.address, strconv.Itoa(n)))
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// allFree says whether nobody listens anywhere in a slot: the labs of another
// state home are not in this one's journals, and their daemons may be dead.
func (p *ports) allFree(first int) bool {
	for n := first; n < first+slotSize; n++ {
		if !p.free(n) {
			return false
		}
	}
	return true
}

// hold takes a slot for this process, for as long as it lives: an abstract socket
// of that name. It is how a lab sees the slots of labs in other homes that
// listen nowhere, since they come up at the same moment or are stopped. It is
// false when another process has it. Where there are no abstract sockets, nothing
// is held: labs of two homes that come up at once may meet there.
func (p *ports) hold(first int) (bool, error) {
	if !abstractSockets {
		return true, nil
	}
	c, err := net.ListenUnixgram("unixgram", slotSocket(first))
	if errors.Is(err, syscall.EADDRINUSE) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ports: %w", err)
	}
	p.held[first] = c
	return true, nil
}

// abstractSockets says whether there are sockets with a name and no file.
const abstractSockets = goruntime.GOOS == "linux"

// slotSocket is the abstract socket of whoever holds a slot.
func slotSocket(first int) *net.UnixAddr {
	return &net.UnixAddr{Name: fmt.Sprintf("@flix/ports/%d", first), Net: "unixgram"}
}

// slotHeld says whether a process holds a slot.
func slotHeld(first int) bool {
	if !abstractSockets {
		return false
	}
	c, err := net.DialUnix("unixgram", nil, slotSocket(first))
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was sent
	return true
}

func (p *ports) letGo(first int) {
	if c, ok := p.held[first]; ok {
		_ = c.Close() // nothing was sent
		delete(p.held, first)
	}
}

// claim holds the slots that the lab had before. One that somebody took while
// the lab ran nowhere is theirs: an instance that finds its port taken says so.
func (p *ports) claim() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for first := range p.slots {
		if _, err := p.hold(first); err != nil {
			return err
		}
	}
	return nil
}

// close lets go of what is held; the slots stay the lab's.
func (p *ports) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for first := range p.held {
		p.letGo(first)
	}
}

// start is where the search for slots begins: at a place that depends on the
// home and the lab's name, so that labs rarely meet.
func (p *ports) start() int {
	h := fnv.New32a()
	h.Write([]byte(filepath.Join(p.home, p.name)))
	return int(h.Sum32() % slots)
}

// newSlot takes a slot that no other lab of this home holds.
func (p *ports) newSlot(region string) (int, error) {
	home, err := os.Open(p.home)
	if err != nil {
		return 0, fmt.Errorf("ports: %w", err)
	}
	defer home.Close() // ends the lock as well
	if err := syscall.Flock(int(home.Fd()), syscall.LOCK_EX); err != nil {
		return 0, fmt.Errorf("ports: %w", err)
	}
	taken, err := p.otherLabs()
	if err != nil {
		return 0, err
	}
	start := p.start()
	for k := range slots {
		first := portFirst + (start+k)%slots*slotSize
		if _, ours := p.slots[first]; ours || taken[first] {
			continue
		}
		switch ok, err := p.hold(first); {
		case err != nil:
			return 0, err
		case !ok:
			continue
		}
		// A slot with somebody else's listener in it is left alone.
		if !p.allFree(first) {
			p.letGo(first)
			continue
		}
		if err := p.j.Put(journal.Slot, strconv.Itoa(first), slotData{region}); err != nil {
			p.letGo(first)
			return 0, err
		}
		p.slots[first] = region
		return first, nil
	}
	return 0, services.Errorf(services.Exhausted, "ports: every slot of %d ports from %d to %d is taken", slotSize, portFirst, portLast).WithRemedy("end labs that are not needed: flix lab ls, flix lab down --name NAME")
}

func (p *ports) otherLabs() (map[int]bool, error) {
	taken := map[int]bool{}
	ds, err := os.ReadDir(p.home)
	if err != nil {
		return nil, fmt.Errorf("ports: %w", err)
	}
	for _, d := range ds {
		if d.Name() == p.name {
			continue
		}
		es, err := journal.Read(journal.Path(filepath.Join(p.home, d.Name())))
		if err != nil {
			continue // another lab's damage is not this lab's: its ports show as bound
		}
		for _, e := range es {
			if e.Kind == journal.Slot {
				if first, err := strconv.Atoi(e.ID); err == nil {
					taken[first] = true
				}
			}
		}
	}
	return taken, nil
}
