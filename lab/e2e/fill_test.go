package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func fillCostsTheOriginOnce(l *lab) {
	t := l.t
	r := l.must("fill", "status", "-o", "json")
	wantFields(t, "fill status", []byte(r.stdout), "appliances", "unique_bytes", "origin_egress_bytes", "origin_egress_ratio")
	for _, a := range elements(t, []byte(r.stdout), "appliances") {
		wantFields(t, "fill appliance", a, "name", "site", "kind", "assigned", "held", "cache_fill_bytes", "tier_fill_bytes", "peer_fill_bytes", "percent")
	}
	var f fillStatus
	decode(t, r, &f)
	if len(f.Appliances) != 18 {
		t.Errorf("%d appliances, want six in each of three regions", len(f.Appliances))
	}
	var cache, peer, tier uint64
	for _, a := range f.Appliances {
		if a.Percent != 100 || a.Held != a.Assigned || a.Assigned == 0 {
			t.Errorf("%s holds %d of %d files, %g %%", a.Name, a.Held, a.Assigned, a.Percent)
		}
		if a.Kind == "isp" && a.CacheFillBytes != 0 {
			t.Errorf("%s is inside an ISP and took %d bytes from the origin", a.Name, a.CacheFillBytes)
		}
		cache, tier, peer = cache+a.CacheFillBytes, tier+a.TierFillBytes, peer+a.PeerFillBytes
	}
	if f.OriginEgressRatio != 1 || f.OriginEgressBytes != f.UniqueBytes || f.UniqueBytes == 0 || cache != f.OriginEgressBytes {
		t.Errorf("origin egress %d of %d unique bytes, ratio %g; the exchanges took %d: want each byte once", f.OriginEgressBytes, f.UniqueBytes, f.OriginEgressRatio, cache)
	}
	if tier == 0 || peer == 0 {
		t.Errorf("tier fill %d, peer fill %d bytes: want both", tier, peer)
	}
}

// objects is where an appliance keeps its files, named by their SHA-256.
func (l *lab) objects(appliance string) string {
	return filepath.Join(l.data(appliance), "objects")
}

// stored lists the objects on an appliance's disk, however it sorts them into
// folders.
func (l *lab) stored(appliance string) (files []string) {
	l.t.Helper()
	err := filepath.WalkDir(l.objects(appliance), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		l.t.Fatalf("%s: no objects below %s (%v)", appliance, l.objects(appliance), err)
	}
	return files
}

// deletedFileComesFromAPeer deletes the largest file of one appliance.
func deletedFileComesFromAPeer(l *lab) {
	t := l.t
	const name = "us-east/us-east-isp-1/oca/1"
	var victim string
	var size int64
	for _, f := range l.stored(name) {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if st.Size() > size {
			victim, size = f, st.Size()
		}
	}
	before := l.fill()
	if err := os.Remove(victim); err != nil {
		t.Fatal(err)
	}
	l.must("fill", "run", "--now")
	want := before.appliance(t, name).PeerFillBytes + uint64(size)
	var after fillStatus
	await(t, 15*time.Second, "peer fill of the deleted file", func() error {
		after = l.fill()
		if a := after.appliance(t, name); a.PeerFillBytes != want || a.Held != a.Assigned {
			return fmt.Errorf("peer fill %d, want %d; it holds %d of %d files", a.PeerFillBytes, want, a.Held, a.Assigned)
		}
		return nil
	})
	if after.OriginEgressBytes != before.OriginEgressBytes {
		t.Errorf("origin egress rose by %d bytes", after.OriginEgressBytes-before.OriginEgressBytes)
	}
	b, a := before.appliance(t, name), after.appliance(t, name)
	if a.TierFillBytes != b.TierFillBytes || a.CacheFillBytes != b.CacheFillBytes {
		t.Errorf("tier fill rose by %d, cache fill by %d bytes", a.TierFillBytes-b.TierFillBytes, a.CacheFillBytes-b.CacheFillBytes)
	}
	wantWhole(t, victim)
}

// wantWhole checks that a stored object's content is what its name says.
func wantWhole(t testing.TB, path string) {
	t.Helper()
	if err := whole(path); err != nil {
		t.Error(err)
	}
}

func whole(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != filepath.Base(path) {
		return fmt.Errorf("%s has the SHA-256 %x", path, sum)
	}
	return nil
}

// flippedByteIsNoticed flips one bit of a byte in the first segment of the
// lowest rung, where every play begins, on the appliance that serves.
func flippedByteIsNoticed(l *lab) {
	t := l.t
	before := l.fill()
	play := append([]string{"--ip", "198.18.0.77"}, quick("us-east")...)
	first := l.play(play...)
	name := first.Appliances[0].Name
	path, offset := l.firstSegment(name, "harbor-lights", first.Rungs[0].ID)
	flip(t, path, offset)

	// The client probes before every play and may prefer the other appliance
	// of the site for once.
	var hit playReport
	await(t, 30*time.Second, "a play from "+name, func() error {
		hit = l.play(play...)
		wantPlayed(t, hit, 6) // checksum_ok in it
		for _, c := range hit.Candidates {
			if c.Name == name && len(hit.Errors) > 0 {
				return nil
			}
		}
		return fmt.Errorf("served by %+v without an error", hit.Appliances)
	})
	if hit.ApplianceSwitches == 0 || hit.Appliances[len(hit.Appliances)-1].Name == name {
		t.Errorf("the player did not leave the appliance with the damaged file: %d switches, %+v, errors %v", hit.ApplianceSwitches, hit.Appliances, hit.Errors)
	}
	quarantine := filepath.Join(filepath.Dir(l.objects(name)), "quarantine")
	await(t, 20*time.Second, "quarantine and refill of the damaged file", func() error {
		bad, err := os.ReadDir(quarantine)
		if err != nil {
			return err
		}
		if len(bad) != 1 {
			return fmt.Errorf("%d files are in quarantine, want the damaged one", len(bad))
		}
		if err := whole(path); err != nil {
			return err
		}
		if a := l.fill().appliance(t, name); a.Held != a.Assigned {
			return fmt.Errorf("%d of %d files are held", a.Held, a.Assigned)
		}
		return nil
	})
	if after := l.fill(); after.OriginEgressBytes != before.OriginEgressBytes {
		t.Errorf("the refill cost the origin %d bytes, a peer holds the file", after.OriginEgressBytes-before.OriginEgressBytes)
	}
	if p := l.play(play...); len(p.Errors) != 0 {
		t.Errorf("a play after the refill notices %v", p.Errors)
	}
}

// titleIndex is the part of a title's index.json that a segment is found by.
type titleIndex struct {
	Title  string `json:"title"`
	Tracks []struct {
		ID   string `json:"id"`
		Size uint64 `json:"size"`
		Init struct {
			Offset uint64 `json:"offset"`
			Size   uint64 `json:"size"`
			SHA256 []byte `json:"sha256"`
		} `json:"init"`
		Segments []struct {
			Offset uint64 `json:"offset"`
			Size   uint64 `json:"size"`
		} `json:"segments"`
	} `json:"tracks"`
}

// firstSegment finds a track's file on an appliance's disk, and a byte in the
// middle of its first segment.
func (l *lab) firstSegment(appliance, title, track string) (path string, offset int64) {
	l.t.Helper()
	var contents [][]byte
	files := l.stored(appliance)
	var idx titleIndex
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			l.t.Fatal(err)
		}
		contents = append(contents, b)
		if x := (titleIndex{}); len(b) > 0 && b[0] == '{' && json.Unmarshal(b, &x) == nil && x.Title == title {
			idx = x
		}
	}
	for _, tr := range idx.Tracks {
		if tr.ID != track || len(tr.Segments) == 0 {
			continue
		}
		for i, b := range contents {
			if uint64(len(b)) != tr.Size {
				continue
			}
			sum := sha256.Sum256(b[tr.Init.Offset : tr.Init.Offset+tr.Init.Size])
			if bytes.Equal(sum[:], tr.Init.SHA256) {
				return files[i], int64(tr.Segments[0].Offset + tr.Segments[0].Size/2)
			}
		}
	}
	l.t.Fatalf("%s does not hold track %s of %s", appliance, track, title)
	return "", 0
}

// flip changes one byte of a file in place.
func flip(t testing.TB, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}
