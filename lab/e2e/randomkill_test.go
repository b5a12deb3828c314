package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// blow is one end of something without a word: of what, and in the course of
// what. It comes at a random time in that.
type blow struct{ victim, during string }

func (b blow) String() string { return b.victim + " " + b.during }

// What a blow comes in the course of.
const (
	atRest      = "at rest"
	inRepair    = "while an up mends the lab"
	fromNothing = "while an up makes the lab"
	inDown      = "while a down takes it away"
)

// victims of each. "interrupt" is Ctrl-C in the command, once or twice; the
// others are killed with SIGKILL.
var victims = map[string][]string{
	atRest:      {"daemon", "service", "store", "agent", "appliances", "region", "everything"},
	inRepair:    {"command", "daemon", "service", "store", "interrupt", "interrupt twice"},
	fromNothing: {"command", "daemon", "store", "interrupt", "interrupt twice"},
	inDown:      {"command", "daemon", "interrupt", "interrupt twice"},
}

// kills is how many blows the test deals.
const kills = 20

// blows deals them: most come to a lab that is up, which an up mends in
// seconds; each that comes while the lab is taken away is followed by one that
// comes while it is made again.
func blows(r *rand.Rand) []blow {
	deck := map[string][]string{}
	draw := func(during string) blow {
		if len(deck[during]) == 0 { // every victim once before one comes again
			deck[during] = slices.Clone(victims[during])
			r.Shuffle(len(deck[during]), func(i, j int) { deck[during][i], deck[during][j] = deck[during][j], deck[during][i] })
		}
		v := deck[during][0]
		deck[during] = deck[during][1:]
		return blow{v, during}
	}
	var out []blow
	const rounds, calm = 4, 3 // calm blows in each round
	for range rounds {
		out = append(out, draw(fromNothing))
		for range calm {
			out = append(out, draw([]string{atRest, inRepair}[r.IntN(2)]))
		}
		out = append(out, draw(inDown))
	}
	return out[:kills]
}

// TestRandomKills deals random blows to a lab of containers. After each the
// same up, or down, ends as if nothing had been; a title plays; and at the end
// nothing is left. FLIX_KILL_SEED repeats a run.
func TestRandomKills(t *testing.T) {
	long(t)
	rt := containersOnly(t)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("FLIX_KILL_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("FLIX_KILL_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	l := prepare(t, rt)
	before := l.imagesOfOurs()
	k := &killer{l: l, r: r, up: append([]string{"lab", "up", "--regions", "2"}, rt.flags()...)}
	for i, b := range blows(r) {
		if !t.Run(fmt.Sprintf("%02d %s", i+1, b), func(t *testing.T) { k.l = l.on(t); k.deal(b) }) {
			return
		}
	}
	l.wantNothingLeft()
	for _, id := range l.imagesOfOurs() {
		if !slices.Contains(before, id) {
			t.Errorf("image left after down: %s", id)
		}
	}
}

// containersOnly is the containers runtime, for what no other has.
func containersOnly(t *testing.T) platform {
	t.Helper()
	for _, rt := range runtimes(t) {
		if rt.containers() {
			rt.need(t)
			return rt
		}
	}
	t.Fatal("there is no containers runtime")
	return platform{}
}

// imagesOfOurs lists the images of labs' containers, the untagged ones too.
func (w *world) imagesOfOurs() []string {
	w.t.Helper()
	return strings.Fields(docker(w.t, "images", "--all", "--no-trunc", "--quiet", "--filter", "label=lab.flix.image"))
}

type killer struct {
	l  *lab
	r  *rand.Rand
	up []string
}

// deal strikes, and then has the lab brought to where it was to be.
func (k *killer) deal(b blow) {
	t := k.l.t
	began := time.Now()
	switch b.during {
	case atRest:
		k.strike(b.victim, nil)
	case inRepair:
		k.strike("service", nil) // so that there is something to mend
		k.duringCommand(b.victim, k.up, 4*time.Second)
	case fromNothing:
		k.duringCommand(b.victim, k.up, 25*time.Second)
	case inDown:
		k.duringCommand(b.victim, []string{"lab", "down"}, 2*time.Second)
		k.downAgain()
		t.Logf("down again after %s", time.Since(began).Round(time.Millisecond))
		return
	}
	struck := time.Now()
	res := k.l.up("--regions", "2")
	t.Logf("up again %s after the blow, %s in all", time.Since(struck).Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	for _, r := range res.Regions {
		if r.State != "ready" {
			t.Errorf("%s is %s", r.Name, r.State)
		}
	}
	region := []string{"us-east", "us-west"}[k.r.IntN(2)]
	wantPlayed(t, k.l.play(quick(region)...), 6)
	if d := k.l.diff(); !d.Equal {
		t.Errorf("it differs from what is declared: %+v", d.Differences)
	}
}

// duringCommand runs a command and strikes at a random time in it.
func (k *killer) duringCommand(victim string, args []string, most time.Duration) {
	t := k.l.t
	c := k.l.start(nil, args...)
	at := time.Duration(k.r.Int64N(int64(most)))
	select {
	case <-c.done: // it was faster
	case <-time.After(at): // the moment, not a wait for something
	}
	k.strike(victim, c)
	r := c.wait()
	t.Logf("struck %s into it; it ended with %d after %s: %s", at.Round(time.Millisecond), r.code, r.took.Round(time.Millisecond), tail(r.stderr, 1))
}

// strike hits one victim of those that are there.
func (k *killer) strike(victim string, c *command) {
	t := k.l.t
	t.Helper()
	switch victim {
	case "command":
		_ = c.cmd.Process.Kill() // it may have ended
	case "interrupt", "interrupt twice":
		_ = c.cmd.Process.Signal(os.Interrupt)
		if victim == "interrupt twice" {
			select {
			case <-c.done:
			case <-time.After(100 * time.Millisecond): // the second one of an impatient user
				_ = c.cmd.Process.Signal(os.Interrupt)
			}
		}
	case "daemon":
		k.killDaemon()
	case "everything":
		k.killDaemon()
		k.killContainers(k.l.containerIDs(false, ""))
	case "region":
		k.killContainers(k.l.containerIDs(false, []string{"us-east", "us-west"}[k.r.IntN(2)]))
	case "appliances":
		k.killContainers(k.l.containerIDs(false, "oc"))
	case "agent":
		k.killOne("agent")
	case "service":
		k.killOne("pack")
	case "store":
		k.killOne([]string{"kv", "kafka", "sql", "evcache", "search", "s3"}[k.r.IntN(6)])
	default:
		t.Fatalf("nobody is called %q", victim)
	}
}

func (k *killer) killDaemon() {
	if p, ok := k.l.process("daemon", ""); ok {
		k.l.kill(p)
	}
}

// killOne kills one container of a role, if there is any.
func (k *killer) killOne(role string) {
	ids := strings.Fields(docker(k.l.t, append([]string{"ps", "--quiet", "--filter", "label=lab.flix.role=" + role}, k.l.ours()...)...))
	if len(ids) > 0 {
		k.killContainers(ids[k.r.IntN(len(ids)):][:1])
	}
}

// killContainers kills them; one may end, or be removed, before its turn comes.
func (k *killer) killContainers(ids []string) {
	for _, id := range ids {
		_, _ = dockerTry("kill", "--signal", "KILL", id)
	}
}

// downAgain takes away what a down that was cut short has left.
func (k *killer) downAgain() {
	t := k.l.t
	await(t, k.l.limit, "the lab to be down", func() error {
		switch r := k.l.flix("lab", "down"); r.code {
		case 0, 20: // 20: it was down
			return nil
		default:
			return fmt.Errorf("%s", r.story())
		}
	})
	k.l.wantNothingLeft()
}
