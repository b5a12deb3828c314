package media

import (
	"crypto/sha256"
	"io"
)

const (
	// minChunk is the least size of a chunk: a file no longer has one checksum.
	minChunk = 256 << 10
	// maxChunks bounds the chunks of a file, and with them what its description
	// takes: a kilobyte.
	maxChunks = 32
)

// Digest is the checksums of a file, as its description carries them.
type Digest struct {
	// Size in bytes, and the SHA-256 of all of it.
	Size   uint64
	SHA256 []byte
	// ChunkBytes is the size of each chunk but the last, Chunks their SHA-256;
	// none for a file of one chunk.
	ChunkBytes uint64
	Chunks     [][]byte
}

// chunkOf is the chunk size of a file: a multiple of minChunk that makes
// maxChunks of it at most.
func chunkOf(size uint64) uint64 {
	const step = minChunk * maxChunks
	return max(1, (size+step-1)/step) * minChunk
}

// NewDigest reads size bytes. Errors are the reader's, or io.ErrUnexpectedEOF
// if there are fewer.
func NewDigest(r io.Reader, size uint64) (Digest, error) {
	d := Digest{Size: size, ChunkBytes: chunkOf(size)}
	whole := sha256.New()
	for left := size; left > 0; {
		n := min(left, d.ChunkBytes)
		h := sha256.New()
		if _, err := io.CopyN(io.MultiWriter(whole, h), r, int64(n)); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return Digest{}, err
		}
		d.Chunks = append(d.Chunks, h.Sum(nil))
		left -= n
	}
	d.SHA256 = whole.Sum(nil)
	if len(d.Chunks) < 2 {
		d.Chunks, d.ChunkBytes = nil, 0
	}
	return d, nil
}
