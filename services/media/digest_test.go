package media

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
)

func TestDigestCoversEveryByteOnce(t *testing.T) {
	for _, size := range []int{0, 1, minChunk, minChunk + 1, maxChunks * minChunk, maxChunks*minChunk + 1, 3*maxChunks*minChunk - 7} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(i * 7 >> 3)
		}
		d, err := NewDigest(bytes.NewReader(b), uint64(size))
		if err != nil {
			t.Fatal(err)
		}
		if want := sha256.Sum256(b); !bytes.Equal(d.SHA256, want[:]) || d.Size != uint64(size) {
			t.Errorf("%d bytes: SHA-256 %x", size, d.SHA256)
		}
		if size <= minChunk {
			if d.Chunks != nil || d.ChunkBytes != 0 {
				t.Errorf("%d bytes are cut into %d chunks", size, len(d.Chunks))
			}
			continue
		}
		if n := (uint64(size) + d.ChunkBytes - 1) / d.ChunkBytes; int(n) != len(d.Chunks) || n > maxChunks {
			t.Errorf("%d bytes: %d chunks of %d", size, len(d.Chunks), d.ChunkBytes)
		}
		for i, sum := range d.Chunks {
			part := b[i*int(d.ChunkBytes) : min(size, (i+1)*int(d.ChunkBytes))]
			if want := sha256.Sum256(part); !bytes.Equal(sum, want[:]) {
				t.Errorf("%d bytes: chunk %d has a wrong checksum", size, i)
			}
		}
	}
	if _, err := NewDigest(bytes.NewReader(make([]byte, 9)), 10); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that is too short: %v", err)
	}
}
