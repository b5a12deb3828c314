package containers

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// TestSum: what is told to a running container is no reason to make it anew,
// anything else of a declaration is.
func TestSum(t *testing.T) {
	base := declaration{ID: "us-east/a/kv/1", Image: "cassandra:5", Env: map[string]string{"A": "1"}, Specs: []runtime.Spec{{Address: "10.0.1.2"}}}
	sum := must[string](t)
	want := sum(base.sum())
	told := base
	told.Specs = []runtime.Spec{{Address: "10.0.1.2", Properties: map[string]string{"x": "y"}, Status: "UP"}}
	if sum(told.sum()) != want {
		t.Error("a property changes the sum")
	}
	if base.Specs[0].Status != "" || told.Specs[0].Status != "UP" {
		t.Error("sum changed the declaration")
	}
	for name, change := range map[string]func(*declaration){
		"image": func(d *declaration) { d.Image = "cassandra:6" }, "environment": func(d *declaration) { d.Env = map[string]string{"A": "2"} },
		"memory": func(d *declaration) { d.Memory = 1 }, "ports": func(d *declaration) { d.Publish = []port{{Number: 1}} },
	} {
		d := base
		change(&d)
		if sum(d.sum()) == want {
			t.Errorf("another %s has the same sum", name)
		}
	}
	serves := declaration{ID: "us-east/a", Serves: true, Specs: []runtime.Spec{{Address: "a"}}}
	more := serves
	more.Specs = append(slices.Clone(serves.Specs), runtime.Spec{Address: "b"})
	if sum(serves.sum()) != sum(more.sum()) {
		t.Error("an instance more in a container of flix's own changes the sum")
	}
	// One that was stopped and started again is the last of those inside.
	again := serves
	serves.Publish, again.Publish = []port{{Number: 1}, {2, true}}, []port{{2, true}, {Number: 1}}
	if sum(serves.sum()) != sum(again.sum()) {
		t.Error("the order of the ports changes the sum")
	}
	if again.Publish[0].Number != 2 {
		t.Error("sum changed the order of the declaration's ports")
	}
}

// TestPublished: only what clients dial, and DNS over both protocols.
func TestPublished(t *testing.T) {
	top, err := topology.Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	got := map[topology.Role][]string{}
	for _, i := range top.Instances() {
		s := runtime.Spec{Instance: i, PortNumbers: map[string]int{}}
		for n, name := range i.Ports {
			s.PortNumbers[name] = 1000 + n
		}
		for _, p := range published(s) {
			got[i.Role] = append(got[i.Role], p.String())
		}
	}
	if len(got) != 3 || len(got[topology.RoleDNS]) != 2 || len(got[topology.RoleELB]) != 4 || len(got[topology.RoleOCA]) != 12 {
		t.Errorf("published: %v; want DNS (tcp and udp), two ports of each ELB and of each appliance", got)
	}
}

func TestHostname(t *testing.T) {
	if got := hostname("us-east/a/gateway/1"); got != "1.gateway.a.us-east" {
		t.Errorf("%q", got)
	}
}

func TestContainerOf(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	outer := strings.Repeat("fedcba9876543210", 4)
	for _, text := range []string{
		"12:pids:/docker/" + id + "\n11:memory:/docker/" + id + "\n",                            // version 1, cgroupfs
		"3:cpu,cpuacct:/system.slice/docker-" + id + ".scope\n",                                 // version 1, systemd
		"0::/system.slice/docker-" + id + ".scope\n",                                            // version 2, systemd
		"0::/docker/" + id + "\n",                                                               // version 2, cgroupfs
		"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + id + ".scope\n", // rootless
		"0::/docker/" + outer + "/docker/" + id + "\n",                                          // an engine in a container
		"1:name=systemd:/\n0::/system.slice/docker-" + id + ".scope/init\n",                     // both versions, and a group below
	} {
		if got := containerOf(text); got != id {
			t.Errorf("%q in %q", got, text)
		}
	}
	for _, text := range []string{"", "0::/\n", "0::/user.slice/user-1000.slice\n", "0::/docker/" + id[:63] + "\n", "0::/docker/" + id + "0\n"} {
		if got := containerOf(text); got != "" {
			t.Errorf("%q in no container: %q", got, text)
		}
	}
}

func FuzzContainerOf(f *testing.F) {
	f.Add("0::/system.slice/docker-" + strings.Repeat("0123456789abcdef", 4) + ".scope\n")
	f.Add("12:pids:/docker/" + strings.Repeat("f", 64) + "\n11:memory:/\n")
	f.Add("0::/\n")
	f.Fuzz(func(t *testing.T, text string) {
		id := containerOf(text)
		if id != "" && (len(id) != 64 || !strings.Contains(text, id) || strings.Trim(id, "0123456789abcdef") != "") {
			t.Errorf("%q is no container of %q", id, text)
		}
	})
}

func TestInContainer(t *testing.T) {
	top, err := topology.Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	packs := map[string]bool{}
	for _, i := range top.Instances() {
		id, own := InContainer(topology.Containers{}, i)
		if id != i.ID || (own == 0) != isStore(i.Role) {
			t.Errorf("%s is in %s, %d of flix's own", i.ID, id, own)
		}
		if id, own = InContainer(topology.Containers{Pack: topology.PackZone}, i); own > 0 {
			packs[id] = true
		}
	}
	if len(packs) != 5 { // two zones, an exchange and two ISPs
		t.Errorf("packs %v", packs)
	}
}

// TestStatic refuses what the image could not run.
func TestStatic(t *testing.T) {
	if err := static([]byte("#!/bin/sh\n")); err == nil {
		t.Error("a script passes for a program")
	}
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Skip(err)
	}
	if err := static(sh); err == nil || !strings.Contains(err.Error(), "dynamically") {
		t.Errorf("/bin/sh: %v, want that it is linked dynamically", err)
	}
}

// TestSpecsFiles: what a container is to run is kept over restarts.
func TestSpecsFiles(t *testing.T) {
	r := &Runtime{c: Config{Dir: t.TempDir()}}
	spec := func(id string) runtime.Spec { return runtime.Spec{Instance: topology.Instance{ID: id}} }
	const pack = "us-east/a"
	if err := r.changeSpecs(pack, with([]runtime.Spec{spec("x"), spec("y")})); err != nil {
		t.Fatal(err)
	}
	if err := r.changeSpecs(pack, with([]runtime.Spec{spec("y"), spec("z")})); err != nil {
		t.Fatal(err)
	}
	if err := r.changeSpecs(pack, without([]string{"x"})); err != nil {
		t.Fatal(err)
	}
	got, err := r.specsIn(pack)
	if err != nil || len(got) != 2 || got[0].ID != "y" || got[1].ID != "z" {
		t.Errorf("%v, %v; want y and z", got, err)
	}
	if err := r.forgetSpecs(pack); err != nil {
		t.Fatal(err)
	}
	if got, err := r.specsIn(pack); err != nil || len(got) != 0 {
		t.Errorf("after the end: %v, %v", got, err)
	}
}
