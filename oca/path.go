package oca

import (
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services"
)

// parseClientPath splits "/<token>/t/<title>/<version>/<path>".
func parseClientPath(p string) (token string, r ref, err error) {
	token, rest, ok := strings.Cut(strings.TrimPrefix(p, "/"), "/t/")
	if !ok || token == "" || strings.Contains(token, "/") || !strings.HasPrefix(p, "/") {
		return "", ref{}, services.Errorf(services.NotFound, "there is nothing at this path").WithRemedy("use the URL that the play API gave")
	}
	r, err = parseRef(rest)
	return token, r, err
}

// parseFillPath splits "/fill/<title>/<version>/<path>".
func parseFillPath(p string) (ref, error) {
	rest, ok := strings.CutPrefix(p, "/fill/")
	if !ok {
		return ref{}, services.Errorf(services.NotFound, "there is nothing at this path")
	}
	return parseRef(rest)
}

// parseRef splits "<title>/<version>/<path>". The parts only ever become keys
// of a map, but a name that could mean something to a file system is refused
// all the same.
func parseRef(p string) (ref, error) {
	title, rest, _ := strings.Cut(p, "/")
	version, path, _ := strings.Cut(rest, "/")
	v, err := strconv.ParseUint(version, 10, 64)
	r := ref{title: title, version: v, path: path}
	if err != nil || strconv.FormatUint(v, 10) != version || r.check() != nil {
		return ref{}, services.Errorf(services.NotFound, "there is no such file")
	}
	return r, nil
}

// contentType of a file, by its extension; never sniffed.
func contentType(path string) string {
	ext := path[strings.LastIndexByte(path, '.')+1:]
	switch ext {
	case "mp4", "m4s", "cmfv":
		return "video/mp4"
	case "m4a", "cmfa":
		return "audio/mp4"
	case "mpd":
		return "application/dash+xml"
	case "m3u8":
		return "application/vnd.apple.mpegurl"
	case "json":
		return "application/json"
	case "vtt":
		return "text/vtt"
	}
	return "application/octet-stream"
}
