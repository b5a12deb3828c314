package cachecontrol

import (
	"fmt"
	"testing"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/kv"
)

// told counts the events of a publication that a region's pipeline got.
func (p *planet) told(region, id string) int {
	return p.events.count(func(e any) bool {
		ev, ok := e.(events.TitleEvent)
		return ok && ev.Region == region && ev.ID == id && ev.Instance == region+"/a/cachecontrol/1" && ev.Kind == "published" && ev.Bytes == 10
	})
}

func TestEveryRegionTellsOfAPublication(t *testing.T) {
	p := newPlanet(t)
	east := p.start("us-east")
	west := p.start("us-west")
	p.publish(east, asset("tt-a", 1, 1, origins, 10))
	const id = "published/tt-a/1"
	eventually(t, func() string {
		if e, w := p.told("us-east", id), p.told("us-west", id); e != 1 || w == 0 {
			return fmt.Sprintf("us-east told %d times, us-west %d", e, w)
		}
		return ""
	})
	// The west's order came from the east: it must not go back there.
	p.publish(west, asset("tt-b", 1, 1, origins, 10))
	eventually(t, func() string {
		if p.told("us-east", "published/tt-b/1") == 0 {
			return "us-east has not told of tt-b"
		}
		return ""
	})
	if n := p.told("us-east", id); n != 1 {
		t.Errorf("us-east told of tt-a %d times", n)
	}
}

// A region's pipeline may refuse the event when it is told; the one who
// published is told of its own region's only, and makes good by trying again.
func TestARepeatedPublicationIsToldEverywhereAgain(t *testing.T) {
	p := newPlanet(t)
	east := p.start("us-east")
	p.start("us-west")
	p.events.mu.Lock()
	p.events.err = fmt.Errorf("the pipeline is full")
	p.events.mu.Unlock()
	a := asset("tt-a", 1, 1, origins, 10)
	if _, err := east.Publish(t.Context(), &pb.PublishRequest{Asset: a}); err == nil {
		t.Fatal("published without its event")
	}
	p.events.mu.Lock()
	p.events.err = nil
	p.events.mu.Unlock()
	p.publish(east, a)
	eventually(t, func() string {
		for _, region := range []string{"us-east", "us-west"} {
			if p.told(region, "published/tt-a/1") == 0 {
				return region + " has not told"
			}
		}
		return ""
	})
}

func TestARegionCutOffTellsWhenTheStoreBringsTheTitle(t *testing.T) {
	p := newPlanet(t)
	put := func(a *pb.Asset) {
		t.Helper()
		if err := p.kv.Put(t.Context(), kv.Assets, assetsPartition, assetItem(a)); err != nil {
			t.Fatal(err)
		}
	}
	put(asset("tt-old", 1, 1, origins, 10))
	p.start("us-west")
	s := p.servers["us-west"]
	eventually(t, func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.synced {
			return "the store has not been read"
		}
		return ""
	})
	put(asset("tt-new", 1, 1, origins, 10))
	eventually(t, func() string {
		if p.told("us-west", "published/tt-new/1") == 0 {
			return "the new title was not told"
		}
		return ""
	})
	put(asset("tt-new", 1, 9, origins, 10)) // no more than its popularity
	put(asset("tt-last", 1, 1, origins, 10))
	eventually(t, func() string {
		if p.told("us-west", "published/tt-last/1") == 0 {
			return "the last title was not told"
		}
		return ""
	})
	if n := p.told("us-west", "published/tt-new/1"); n != 1 {
		t.Errorf("the new title was told %d times", n)
	}
	if n := p.told("us-west", "published/tt-old/1"); n != 0 {
		t.Errorf("a title of before the start was told %d times", n)
	}
}
