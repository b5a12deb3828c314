package oca_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// startAll starts every appliance of the topology, in random order.
func (s *site) startAll() int {
	var ids []string
	for _, i := range s.topo.Instances() {
		if i.Role == topology.RoleOCA {
			ids = append(ids, i.ID)
		}
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for _, id := range ids {
		s.startAppliance(id)
	}
	return len(ids)
}

func TestSiteFetchesEveryByteFromTheOriginOnce(t *testing.T) {
	s := newSite(t, 1)
	s.startControl("us-east")
	first, second := s.title("tt-first", 1, 200_000, 3_000, 50_000), s.title("tt-second", 1, 100_000, 10)
	s.publish("us-east", first)
	n := s.startAll()
	s.publish("us-east", second)
	st := s.waitFilled("us-east", n, first, second)
	if got := uint64(s.s3.bytes.Load()); got != st.UniqueBytes || got != 353_010 {
		t.Errorf("the origin served %d bytes, unique are %d, want 353010", got, st.UniqueBytes)
	}
	var sum pb.FillBytes
	for _, a := range st.Appliances {
		sum.Cache += a.Filled.Cache
		sum.Tier += a.Filled.Tier
		sum.Peer += a.Filled.Peer
		if got := a.Filled.Cache + a.Filled.Tier + a.Filled.Peer; got != a.AssignedBytes {
			t.Errorf("%s filled %d bytes, is assigned %d", a.Name, got, a.AssignedBytes)
		}
		if a.Kind == "isp" && a.Filled.Cache != 0 {
			t.Errorf("%s took %d bytes from the origin", a.Name, a.Filled.Cache)
		}
	}
	if sum.Cache != 353_010 || sum.Tier != 2*353_010 || sum.Peer != 3*353_010 {
		t.Errorf("by source: %v", &sum)
	}
}

func objectPath(a *appliance, f *pb.File) string {
	h := hex.EncodeToString(f.GetSha256())
	return filepath.Join(a.dir, "objects", h)
}

func TestDeletedFileIsRestoredFromAPeer(t *testing.T) {
	s := newSite(t, 1)
	s.startControl("us-east")
	asset := s.title("tt-a", 1, 50_000, 20_000)
	s.publish("us-east", asset)
	n := s.startAll()
	s.waitFilled("us-east", n, asset)
	before := s.s3.bytes.Load()
	victim := s.ocas["us-east/us-east-isp-1/oca/2"]
	filled := fillOf(s, victim.id)
	if err := os.Remove(objectPath(victim, asset.Files[0])); err != nil {
		t.Fatal(err)
	}
	r, err := s.controls["us-east"].FillRun(t.Context(), &pb.FillRunRequest{Now: true})
	if err != nil || int(r.Appliances) != n {
		t.Fatalf("fill run: %v, %v", r, err)
	}
	eventually(t, func() string {
		if _, err := os.Stat(objectPath(victim, asset.Files[0])); err != nil {
			return err.Error()
		}
		if got := fillOf(s, victim.id); got.Held != 2 || got.Filled.Peer != filled.Filled.Peer+50_000 || got.Filled.Tier != filled.Filled.Tier {
			return fmt.Sprint(got)
		}
		return ""
	})
	if got := s.s3.bytes.Load(); got != before {
		t.Errorf("the origin served %d bytes more", got-before)
	}
}

func fillOf(s *site, id string) *pb.ApplianceFill {
	for _, a := range s.status("us-east").Appliances {
		if a.Name == id {
			return a
		}
	}
	return &pb.ApplianceFill{}
}

func TestDamagedFileIsQuarantinedAndRefilled(t *testing.T) {
	s := newSite(t, 1)
	s.startControl("us-east")
	asset := s.title("tt-a", 1, 50_000)
	s.publish("us-east", asset)
	n := s.startAll()
	s.waitFilled("us-east", n, asset)
	victim := s.ocas["us-east/us-east-isp-1/oca/1"]
	path := objectPath(victim, asset.Files[0])
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	body[1234] ^= 1
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	client := s.httpClient("198.18.0.7")
	if got := fetch(t, client, s.url(victim, asset, 0, "198.18.0.7")); bytes.Equal(got, s.body(asset, 0)) {
		t.Fatal("the damage does not show")
	}
	before := s.s3.bytes.Load()
	r, err := s.controls["us-east"].Suspect(t.Context(), &pb.SuspectRequest{Appliance: victim.id, TitleId: asset.TitleId, Version: 1, Path: "v0.mp4"})
	if err != nil || !r.Delivered {
		t.Fatalf("suspect: %v, %v", r, err)
	}
	eventually(t, func() string {
		kept, _ := filepath.Glob(filepath.Join(victim.dir, "quarantine", "*"))
		if len(kept) != 1 {
			return fmt.Sprintf("%d files in quarantine", len(kept))
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, s.body(asset, 0)) {
			return "not refilled"
		}
		return ""
	})
	if got := s.s3.bytes.Load(); got != before {
		t.Errorf("the origin served %d bytes more", got-before)
	}
	eventually(t, func() string {
		resp, err := client.Get(s.url(victim, asset, 0, "198.18.0.7"))
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		if got, _ := io.ReadAll(resp.Body); !bytes.Equal(got, s.body(asset, 0)) {
			return resp.Status
		}
		return ""
	})
}

func fetch(t testing.TB, c *http.Client, url string) []byte {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v %s", url, resp.Status, err, b)
	}
	return b
}

func TestApplianceKeepsItsFilesOverARestart(t *testing.T) {
	s := newSite(t, 1)
	s.startControl("us-east")
	asset := s.title("tt-a", 1, 50_000)
	s.publish("us-east", asset)
	a := s.startAppliance("us-east/us-east-ix/oca/1")
	s.startAppliance("us-east/us-east-ix/oca/2")
	s.waitFilled("us-east", 2, asset)
	before := s.s3.bytes.Load()
	a.stop(t)
	a = s.startAppliance(a.id)
	eventually(t, func() string {
		if got := fillOf(s, a.id); got.Held != 1 || got.Filled.Cache+got.Filled.Peer != 50_000 {
			return fmt.Sprint(got)
		}
		return ""
	})
	if got := s.s3.bytes.Load(); got != before {
		t.Errorf("the origin served %d bytes more", got-before)
	}
	if got := fetch(t, s.httpClient("198.18.0.7"), s.url(a, asset, 0, "198.18.0.7")); !bytes.Equal(got, s.body(asset, 0)) {
		t.Error("wrong bytes")
	}
}

func TestApplianceMovesToAnotherCacheControlAndBack(t *testing.T) {
	s := newSite(t, 2)
	home, away := s.startControl("us-east"), s.startControl("us-west")
	first, second := s.title("tt-first", 1, 20_000), s.title("tt-second", 1, 30_000)
	s.publish("us-east", first)
	s.startAppliance("us-east/us-east-ix/oca/1")
	s.startAppliance("us-east/us-east-ix/oca/2")
	s.waitFilled("us-east", 2, first)
	s.waitFilled("us-west", 2, first) // known there through the store
	home.up.Store(false)
	home.stop(t)
	s.publish("us-west", second)
	s.waitFilled("us-west", 2, first, second)
	if got := s.s3.bytes.Load(); got != 50_000 {
		t.Errorf("the origin served %d bytes, want 50000", got)
	}
	back := s.startControl("us-east")
	eventually(t, func() string {
		r, err := back.FillRun(t.Context(), &pb.FillRunRequest{})
		if err != nil {
			return err.Error()
		}
		if own := metric(t, away, s); own != 0 || r.Appliances != 2 {
			return fmt.Sprintf("%d appliances answer, %d still elsewhere", r.Appliances, own)
		}
		return ""
	})
}

// metric counts the appliances connected to a cache control, by a run that is
// not passed on.
func metric(t testing.TB, c *control, _ *site) uint32 {
	r, err := c.FillRun(forwarded(t.Context()), &pb.FillRunRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Appliances
}

func TestFillResumesABrokenConnection(t *testing.T) {
	s := newSite(t, 1)
	requests := 0
	s.s3.cut = func(string) int64 {
		if requests++; requests <= 3 {
			return 70_000
		}
		return -1
	}
	s.startControl("us-east")
	asset := s.title("tt-a", 1, 300_000)
	s.publish("us-east", asset)
	s.startAppliance("us-east/us-east-ix/oca/1")
	s.startAppliance("us-east/us-east-ix/oca/2")
	st := s.waitFilled("us-east", 2, asset)
	if got := s.s3.bytes.Load(); got != 300_000 || requests < 4 {
		t.Errorf("the origin served %d bytes over %d requests, want 300000 over 4", got, requests)
	}
	if st.UniqueBytes != 300_000 {
		t.Errorf("unique bytes: %d", st.UniqueBytes)
	}
}

func TestBadPeerIsFoundOutByTheOneThatFillsFromIt(t *testing.T) {
	s := newSite(t, 1)
	s.startControl("us-east")
	asset := s.title("tt-a", 1, 50_000)
	s.publish("us-east", asset)
	s.startAppliance("us-east/us-east-ix/oca/1")
	s.startAppliance("us-east/us-east-ix/oca/2")
	s.waitFilled("us-east", 2, asset)
	for _, id := range []string{"us-east/us-east-ix/oca/1", "us-east/us-east-ix/oca/2"} {
		path := objectPath(s.ocas[id], asset.Files[0])
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		body[0] ^= 1
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// An ISP's site fills from them: finds the damage, and all are mended.
	s.startAppliance("us-east/us-east-isp-1/oca/1")
	s.startAppliance("us-east/us-east-isp-1/oca/2")
	eventually(t, func() string {
		for id, a := range s.ocas {
			if got, err := os.ReadFile(objectPath(a, asset.Files[0])); err != nil || !bytes.Equal(got, s.body(asset, 0)) {
				return fmt.Sprintf("%s is not mended (%v)", id, err)
			}
		}
		return ""
	})
	s.waitFilled("us-east", 4, asset)
	if got := s.s3.bytes.Load(); got != 100_000 {
		t.Errorf("the origin served %d bytes, want 50000 twice", got)
	}
	var quarantined int
	for _, a := range s.ocas {
		kept, _ := filepath.Glob(filepath.Join(a.dir, "quarantine", "*"))
		quarantined += len(kept)
	}
	if quarantined != 2 {
		t.Errorf("%d files in quarantine, want 2", quarantined)
	}
}

func TestEvictionMakesRoom(t *testing.T) {
	s := newSite(t, 1)
	for i := range s.topo.Regions[0].Exchange.Appliances {
		s.topo.Regions[0].Exchange.Appliances[i].Capacity = 100_000
	}
	s.startControl("us-east")
	old := s.title("tt-a", 1, 60_000)
	s.publish("us-east", old)
	s.startAppliance("us-east/us-east-ix/oca/1")
	s.startAppliance("us-east/us-east-ix/oca/2")
	s.waitFilled("us-east", 2, old)
	next := s.title("tt-b", 1, 70_000)
	next.Popularity = 5
	s.publish("us-east", next)
	s.waitFilled("us-east", 2, next)
	a := s.ocas["us-east/us-east-ix/oca/1"]
	resp, err := s.httpClient("198.18.0.7").Get(s.url(a, old, 0, "198.18.0.7"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the evicted title answers %s", resp.Status)
	}
	index, err := os.ReadFile(filepath.Join(a.dir, "index.log"))
	if err != nil || !strings.Contains(string(index), `"op":"del"`) {
		t.Errorf("the index does not tell of it (%v)", err)
	}
}
