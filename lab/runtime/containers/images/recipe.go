package images

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
)

// contexts hold a folder per image: its Dockerfile, what it copies, and the
// pom.xml of the libraries that are put into its lib/. The pattern keeps names
// that begin with "_" or ".".
//
//go:embed all:context
var contexts embed.FS

// Debian's release and the packages of the first base. Nothing but what every
// image needs is in it.
const (
	debianSuite    = "bookworm"
	debianPackages = "ca-certificates"
)

// versityModule is the S3 server, which is made by the Go tool.
const versityModule = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// Labels of images that are made here.
const (
	// contentLabel is the hash of everything that went into an image.
	contentLabel = "flix.content"
	// buildLabel is one run of Build, by which it finds what it left half made.
	buildLabel = "flix.build"
)

// Labels are those that every image made here has, and what a build that was
// killed left of one.
func Labels() []string { return []string{contentLabel, buildLabel} }

// recipe says how an image is made.
type recipe struct {
	name    string // of its context
	tag     string
	version string // what versionLabel says
	base    string // the tag it stands on; empty for the first base
	maven   bool   // its context's pom.xml names libraries
	module  string // a Go program that is put into its context
	content string // hash of all of it, the base's included
}

// recipes are all images in the order in which they can be made.
func recipes() ([]recipe, error) {
	out := []recipe{
		{name: "debian", tag: baseReference, version: "12"},
		{name: "java", tag: javaReference, version: "17", base: baseReference},
	}
	for _, p := range pins() {
		r := recipe{name: string(p.component), tag: p.built, version: p.version, base: baseReference}
		switch p.component {
		case Cassandra, Kafka, OpenSearch:
			r.base, r.maven = javaReference, true
		case S3:
			r.module = versityModule
		}
		out = append(out, r)
	}
	hashes := map[string]string{}
	for i := range out {
		h, err := out[i].hash(hashes[out[i].base])
		if err != nil {
			return nil, err
		}
		out[i].content, hashes[out[i].tag] = h, h
	}
	return out, nil
}

// hash is over everything that makes an image what it is, but for what Debian
// and Maven serve under the same names.
func (r recipe) hash(base string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q\n", r.tag, r.version, base, r.module, debianSuite+" "+debianPackages)
	files, err := contextFiles(r.name)
	if err != nil {
		return "", err
	}
	for _, f := range files {
		b, err := contexts.ReadFile(path.Join("context", r.name, f))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %d\n", f, len(b))
		_, _ = h.Write(b) // a hash takes everything
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// contextFiles lists the embedded files of an image, sorted; none for the first
// base.
func contextFiles(name string) ([]string, error) {
	root := path.Join("context", name)
	if _, err := fs.Stat(contexts, root); err != nil {
		return nil, nil
	}
	var out []string
	err := fs.WalkDir(contexts, root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, strings.TrimPrefix(p, root+"/"))
		}
		return err
	})
	slices.Sort(out)
	return out, err
}

// wanted picks the recipes of components, and those they stand on.
func wanted(all []recipe, cs []Component) ([]recipe, error) {
	need := map[string]bool{}
	for _, c := range cs {
		i := slices.IndexFunc(all, func(r recipe) bool { return r.name == string(c) })
		if i < 0 {
			return nil, services.Errorf(services.Internal, "there is no recipe of %s", c)
		}
		for tag := all[i].tag; tag != ""; {
			need[tag] = true
			tag = all[slices.IndexFunc(all, func(r recipe) bool { return r.tag == tag })].base
		}
	}
	return slices.DeleteFunc(all, func(r recipe) bool { return !need[r.tag] }), nil
}
