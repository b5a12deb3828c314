package steering_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/steering"
	pb "github.com/flix-lab/flix/services/steering/steeringpb"
)

// first says that an appliance is ranked first, and what is second.
func first(id string) func(*pb.RankReply, error) error {
	return func(r *pb.RankReply, err error) error {
		if err != nil || len(r.Candidates) == 0 || r.Candidates[0].Appliance != id {
			return fmt.Errorf("%v (%v), want %s first", ids(r), err, id)
		}
		return nil
	}
}

func TestTiesByPathThenMED(t *testing.T) {
	f := start(t, patience)
	a, b := ixBox("us-east", 1).event(), ixBox("us-east", 2).event()
	a.State.Hello.Routes = []*ccpb.Route{{Prefix: "198.18.0.0/20", AsPath: 2, Med: 10}}
	b.State.Hello.Routes = []*ccpb.Route{{Prefix: "198.18.0.0/20", AsPath: 2, Med: 20}, {Prefix: "nonsense"}}
	f.control.tell(asset(1), a, b)
	f.until(&pb.RankRequest{}, first("us-east/us-east-ix/oca/1"))
	b.State.Hello.Routes[0].AsPath = 1
	f.control.tell(b)
	f.until(&pb.RankRequest{}, first("us-east/us-east-ix/oca/2"))
}

// The best of an appliance's routes to a prefix counts, whatever their order; a
// plain announcement beside them says nothing of the way.
func TestBestRouteOfAPrefixCounts(t *testing.T) {
	f := start(t, patience)
	a, b := ixBox("us-east", 1).event(), ixBox("us-east", 2, "198.18.0.0/20").event()
	a.State.Hello.Routes = []*ccpb.Route{{Prefix: "198.18.0.0/20"}, {Prefix: "198.18.0.0/20", AsPath: 3}}
	b.State.Hello.Routes = []*ccpb.Route{{Prefix: "198.18.0.0/20", AsPath: 1}}
	f.control.tell(asset(1), a, b)
	f.until(&pb.RankRequest{}, first("us-east/us-east-ix/oca/1"))
	a.State.Hello.Routes = a.State.Hello.Routes[1:]
	f.control.tell(a)
	f.until(&pb.RankRequest{}, first("us-east/us-east-ix/oca/2"))
}

func TestTableOfRoutesFromAFile(t *testing.T) {
	f := start(t, patience)
	f.control.tell(planet()...)
	const client = "203.0.113.9" // in no announced prefix
	byTransit := func(r *pb.RankReply, err error) error {
		if err != nil || len(r.Candidates) < 4 {
			return fmt.Errorf("%v (%v), want all exchanges, by transit", ids(r), err)
		}
		return nil
	}
	f.until(&pb.RankRequest{ClientIp: client}, byTransit)
	file := filepath.Join(t.TempDir(), "table.txt")
	if err := os.WriteFile(file, []byte("203.0.113.0/24 eu-west-ix 2\n203.0.113.0/24 us-west/us-west-ix/oca/1 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.tel.Properties.Set(map[string]string{steering.PropertyRoutes: file})
	f.until(&pb.RankRequest{ClientIp: client}, first("us-west/us-west-ix/oca/1"))
	// A table that cannot be read leaves the one before; none takes it away.
	f.tel.Properties.Set(map[string]string{steering.PropertyRoutes: file + ".none"})
	f.until(&pb.RankRequest{ClientIp: client}, first("us-west/us-west-ix/oca/1"))
	f.tel.Properties.Set(map[string]string{steering.PropertyRoutes: ""})
	f.until(&pb.RankRequest{ClientIp: client, Explain: true}, func(r *pb.RankReply, err error) error {
		for _, d := range r.GetDecisions() {
			if d.Appliance == "us-west/us-west-ix/oca/1" && d.Filter == "prefix" && d.Why[:12] == "an exchange," {
				return nil
			}
		}
		return fmt.Errorf("the table is still in use: %v (%v)", r.GetDecisions(), err)
	})
}

func TestMissesAreCountedByApplianceTitleAndCountry(t *testing.T) {
	f := start(t, patience)
	film := asset(1)
	film.Asset.Files[0].Size = 700
	sick, bare := ispBox(1), ispBox(2)
	sick.sick, bare.paths = "disk", nil
	f.control.tell(film, sick.event(), bare.event(), ixBox("us-east", 1, "198.18.0.0/20").event())
	f.until(&pb.RankRequest{}, first("us-east/us-east-ix/oca/1"))
	for cause, by := range map[string]string{"H": "us-east/us-east-isp-1/oca/1"} {
		if n := counter(t, f.tel, "steering_missed_total", "name", by); n < 1 {
			t.Errorf("cause %s: %v misses of %s", cause, n, by)
		}
	}
	if n := counter(t, f.tel, "steering_missed_bytes_total", "name", "US"); n < 700 || int(n)%700 != 0 {
		t.Errorf("%v bytes of US, want a multiple of the title's 700", n)
	}
	before := counter(t, f.tel, "steering_missed_total", "cause", "T")
	f.until(&pb.RankRequest{ClientIp: "203.0.113.9"}, first("us-east/us-east-ix/oca/1"))
	if n := counter(t, f.tel, "steering_missed_total", "cause", "T"); n <= before {
		t.Errorf("a client in no announced prefix is not counted: %v, before %v", n, before)
	}
}
