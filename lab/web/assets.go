package web

import (
	"embed"
	"io/fs"
	"mime"
	"net/http"
	"path"
)

// assets are the page's own files and, below vendor, those of others with their
// licences.
//
//go:embed assets vendor
var assets embed.FS

// mediaTypes by extension: what the machine's own tables say is not asked.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".md": "text/plain; charset=utf-8", "": "text/plain; charset=utf-8",
}

// serveFile answers with an embedded file.
func serveFile(w http.ResponseWriter, r *http.Request, name string) {
	b, err := fs.ReadFile(assets, name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	kind, ok := mediaTypes[path.Ext(name)]
	if !ok {
		kind = mime.TypeByExtension(path.Ext(name))
	}
	if kind == "" {
		kind = mediaTypes[""]
	}
	w.Header().Set("Content-Type", kind)
	// The files change with the program, and the program is right here.
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(b) // the browser is gone: nothing to tell it
}
