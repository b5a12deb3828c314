package objects

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/flix-lab/flix/services"
)

// Of a full disk it was only said that the server's log says why.
func TestFullDiskIsSaid(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		f := asFault(fmt.Errorf("put: %w", &os.PathError{Op: "write", Path: "x", Err: cause}))
		if f.status != http.StatusInsufficientStorage || !strings.Contains(f.msg, "full") {
			t.Errorf("%v is answered as %v", cause, f)
		}
		err := mapError("objects.Put media/titles/x", minio.ErrorResponse{StatusCode: f.status, Code: f.code, Message: f.msg})
		var e *services.Error
		if !errors.As(err, &e) || e.Kind != services.Exhausted || e.Remedy == "" || !strings.Contains(err.Error(), "media/titles/x") {
			t.Errorf("whoever asked reads %v", err)
		}
	}
	if f := asFault(errors.New("else")); f != errInternal {
		t.Errorf("another failure is answered as %v", f)
	}
}
