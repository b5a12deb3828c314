package folder

import "strings"

// mediaType of a file by its extension; never sniffed.
func mediaType(name string) string {
	switch ext := strings.ToLower(name[strings.LastIndexByte(name, '.')+1:]); ext {
	case "mp4", "m4s", "m4v", "cmfv", "mp4v":
		return "video/mp4"
	case "m4a", "cmfa":
		return "audio/mp4"
	case "mpd":
		return "application/dash+xml"
	case "m3u8":
		return "application/vnd.apple.mpegurl"
	case "ts":
		return "video/mp2t"
	case "webm":
		return "video/webm"
	case "aac":
		return "audio/aac"
	case "mp3":
		return "audio/mpeg"
	case "json":
		return "application/json"
	case "vtt":
		return "text/vtt; charset=utf-8"
	case "ttml", "dfxp":
		return "application/ttml+xml"
	case "cmft":
		return "application/mp4"
	case "html", "htm":
		return "text/html; charset=utf-8"
	case "js", "mjs":
		return "text/javascript; charset=utf-8"
	case "css":
		return "text/css; charset=utf-8"
	case "txt":
		return "text/plain; charset=utf-8"
	case "xml":
		return "application/xml"
	case "jpg", "jpeg":
		return "image/jpeg"
	case "png":
		return "image/png"
	case "webp":
		return "image/webp"
	case "svg":
		return "image/svg+xml"
	}
	return "application/octet-stream"
}

// manifest says whether a file names others, and so is to be asked for anew.
func manifest(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".mpd") || strings.HasSuffix(name, ".m3u8")
}
