package lab

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A file that was renamed is let go on a hangup, and its name taken up again; what
// cannot be opened leaves the file in use.
func TestFolderReopensItsAccessLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "access.log")
	addr, out, hangup := serveFolder(t, ServeFolderOptions{AccessLog: name})
	// ask has a line written, and waits until it is in the file.
	ask := func(path, file string) {
		t.Helper()
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for deadline := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
			b, err := os.ReadFile(file)
			if err == nil && strings.Contains(string(b), `"path":"`+path+`"`) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not in %s: %s %v\n%s", path, file, b, err, out)
			}
		}
	}
	defer http.DefaultClient.CloseIdleConnections()
	ask("/first", name)
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	ask("/before", name+".1")
	hangup <- syscall.SIGHUP
	out.await(t, "access.log is opened again")
	ask("/after", name)

	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	hangup <- syscall.SIGHUP
	out.await(t, "cannot be opened again, the file before stays in use")
	ask("/still", filepath.Join(dir+".gone", "access.log"))
}
