// Package original brings the original's client and server, unchanged, from
// Maven Central and compiles the two small programs in java against them: one
// uses a registry by the client and its codecs, one runs the server. Tests and
// the bench run them beside ours. It never runs anything but Maven and javac.
package original

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/flix-lab/flix/services"
)

//go:embed java
var sources embed.FS

// The classes to run.
const (
	// Client takes a registry's base URL, prints "ok WHAT" for each check that
	// passed and ends with "ok all", or fails with what did not.
	Client = "Interop"
	// Server takes a port, a peer's base URL, and whether it sends batches; it
	// prints "listening" and ends when its input is closed.
	Server = "OriginalServer"
)

// Build returns the class path of both programs. What it makes is kept under
// the folder: only the first call on a machine downloads anything (24 MB). It
// fails with Unavailable where a tool is missing or Maven gets nothing.
func Build(ctx context.Context, cache string) (string, error) {
	for _, tool := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", services.Errorf(services.Unavailable, "%s is not on PATH", tool).WithRemedy("apt-get install openjdk-17-jdk-headless maven")
		}
	}
	lib, err := kept(cache, []string{"pom.xml"}, func(dir, src string) error {
		return run(ctx, "mvn", "-q", "-B", "-f", filepath.Join(src, "pom.xml"), "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+dir)
	})
	if err != nil {
		return "", err
	}
	classes, err := kept(cache, []string{Client + ".java", Server + ".java"}, func(dir, src string) error {
		return run(ctx, "javac", "-proc:none", "-nowarn", "-cp", filepath.Join(lib, "*"), "-d", dir, filepath.Join(src, Client+".java"), filepath.Join(src, Server+".java"))
	})
	if err != nil {
		return "", err
	}
	return classes + ":" + filepath.Join(lib, "*"), nil
}

// Command is a JVM of at most heap ("256m") that runs one of the programs. It
// logs warnings, and what the client finds in its deltas.
func Command(ctx context.Context, classpath, heap string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "java", append([]string{
		"-Xmx" + heap, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-Dorg.slf4j.simpleLogger.log.com.netflix.discovery.DiscoveryClient=debug", "-cp", classpath,
	}, args...)...)
}

func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return &services.Error{Op: name, Kind: services.Unavailable, Err: err, Msg: strings.TrimSpace(string(out))}
	}
	return nil
}

// kept is the folder that fill has filled from the files, in this call or in
// one before with the same files.
func kept(cache string, files []string, fill func(dir, src string) error) (string, error) {
	sum := sha256.New()
	src, err := os.MkdirTemp("", "original-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(src)
	for _, f := range files {
		b, err := fs.ReadFile(sources, path.Join("java", f))
		if err != nil {
			return "", err
		}
		_, _ = sum.Write(b) // a hash takes every write
		if err := os.WriteFile(filepath.Join(src, f), b, 0o600); err != nil {
			return "", err
		}
	}
	dir := filepath.Join(cache, "registry-"+hex.EncodeToString(sum.Sum(nil))[:16])
	mark := filepath.Join(dir, ".done")
	if b, err := os.ReadFile(mark); err == nil && bytes.Equal(b, []byte("done\n")) {
		return dir, nil
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), fill(dir, src)); err != nil {
		return "", err
	}
	return dir, os.WriteFile(mark, []byte("done\n"), 0o600)
}
