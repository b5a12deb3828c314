package media

import (
	"fmt"
	"os"
	"slices"
)

// Manifests returns every file that describes the tracks, by name: the index,
// the DASH presentation and the HLS playlists.
func (x Index) Manifests() (map[string][]byte, error) {
	index, err := x.JSON()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{IndexPath: index, DASHPath: x.DASH(), HLSPath: x.HLSMaster()}
	for _, t := range x.Tracks {
		files[PlaylistPath(t)] = x.HLSMedia(t)
		if t.hasIFrames() {
			files[IFramesPath(t)] = x.HLSIFrames(t)
		}
	}
	return files, nil
}

// Files lists every file of the title by name: manifests and tracks, sorted.
func (x Index) Files() []string {
	names := []string{IndexPath, DASHPath, HLSPath}
	for _, t := range x.Tracks {
		names = append(names, t.Path, PlaylistPath(t))
		if t.hasIFrames() {
			names = append(names, IFramesPath(t))
		}
	}
	slices.Sort(names)
	return names
}

// Package indexes the track files in a directory and writes the index and the
// manifests beside them. It is idempotent: the same tracks give the same files.
func Package(dir *os.Root, title string, version uint64, sources ...Source) (Index, error) {
	x, err := BuildIndex(dir.FS(), title, version, sources...)
	if err != nil {
		return Index{}, fmt.Errorf("package %s: %w", title, err)
	}
	files, err := x.Manifests()
	if err != nil {
		return Index{}, fmt.Errorf("package %s: %w", title, err)
	}
	for name, b := range files {
		if err := dir.WriteFile(name, b, 0o644); err != nil {
			return Index{}, fmt.Errorf("package %s: %w", title, err)
		}
	}
	return x, nil
}
