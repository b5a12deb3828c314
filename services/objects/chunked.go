package objects

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strconv"
	"strings"
)

const (
	// maxTrailerLines bounds the trailer of an aws-chunked body.
	maxTrailerLines = 16
	// chunkBuffer holds a chunk header or a trailer line.
	chunkBuffer = 4 << 10
)

// chunkSigner verifies the chain of signatures of a streamed body: each chunk
// signs its digest and the signature before it.
type chunkSigner struct {
	key     []byte
	amzDate string
	scope   string
	prev    string
}

func (s *chunkSigner) verify(kind, digests, claimed string) bool {
	want := hex.EncodeToString(hmacSHA256(s.key, kind+"\n"+s.amzDate+"\n"+s.scope+"\n"+s.prev+"\n"+digests))
	s.prev = want
	return hmac.Equal([]byte(want), []byte(claimed))
}

// chunkReader decodes an aws-chunked body ("Signature Calculations for the
// Authorization Header: Transferring Payload in Multiple Chunks" of the S3 API
// reference). A chunk's data is handed on before its signature is known to be
// right, so nothing read may be used before the reader has returned io.EOF.
type chunkReader struct {
	br *bufio.Reader
	// signer is nil for an unsigned body.
	signer   *chunkSigner
	trailing bool
	want     int64 // decoded length declared

	left    int64 // of the chunk at hand
	total   int64
	sig     string
	sum     hash.Hash
	trailer map[string]string
	err     error
}

// newChunkReader decodes r, which must hold exactly want bytes of data.
func newChunkReader(r io.Reader, signer *chunkSigner, trailing bool, want int64) *chunkReader {
	c := &chunkReader{br: bufio.NewReaderSize(r, chunkBuffer), signer: signer, trailing: trailing, want: want}
	if signer != nil {
		c.sum = sha256.New()
	}
	return c
}

// Trailer returns the trailer's fields by lower-case name, once the body has
// been read to its end.
func (c *chunkReader) Trailer() map[string]string { return c.trailer }

// Read returns the data of the chunks.
func (c *chunkReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.err == nil && c.left == 0 {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.br.Read(p[:min(int64(len(p)), c.left)])
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	c.left -= int64(n)
	c.total += int64(n)
	switch {
	case err != nil:
		c.err = cut(err)
	case c.left == 0:
		c.err = c.endChunk()
	}
	return n, c.err
}

// next reads a chunk's header; after the last chunk it returns io.EOF.
func (c *chunkReader) next() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	size, sig, err := parseChunkHeader(line, c.signer != nil)
	if err != nil {
		return err
	}
	c.sig, c.left = sig, size
	if c.total+size > c.want {
		return errChunkMalformed.with("The chunks hold more than x-amz-decoded-content-length.")
	}
	if size > 0 {
		return nil
	}
	return c.finish()
}

// parseChunkHeader reads "HEXSIZE" or "HEXSIZE;chunk-signature=HEX".
func parseChunkHeader(line string, signed bool) (int64, string, error) {
	hexSize, ext, _ := strings.Cut(line, ";")
	if hexSize == "" || len(hexSize) > 15 || hexSize[0] == '+' || hexSize[0] == '-' {
		return 0, "", errChunkMalformed
	}
	size, err := strconv.ParseInt(hexSize, 16, 64)
	if err != nil {
		return 0, "", errChunkMalformed
	}
	if !signed {
		return size, "", nil
	}
	sig, ok := strings.CutPrefix(ext, "chunk-signature=")
	if !ok || !isHexSHA256(sig) {
		return 0, "", errChunkMalformed.with("A chunk carries no signature.")
	}
	return size, sig, nil
}

// endChunk checks what follows a chunk's data.
func (c *chunkReader) endChunk() error {
	var crlf [2]byte
	if _, err := io.ReadFull(c.br, crlf[:]); err != nil {
		return cut(err)
	}
	if crlf != [2]byte{'\r', '\n'} {
		return errChunkMalformed
	}
	return c.verifyChunk()
}

func (c *chunkReader) verifyChunk() error {
	if c.signer == nil {
		return nil
	}
	digest := hex.EncodeToString(c.sum.Sum(nil))
	c.sum.Reset()
	if !c.signer.verify("AWS4-HMAC-SHA256-PAYLOAD", emptySHA256+"\n"+digest, c.sig) {
		return errBadSignature.with("The signature of a chunk does not match.")
	}
	return nil
}

// finish checks the empty last chunk, the trailer and the length.
func (c *chunkReader) finish() error {
	if err := c.verifyChunk(); err != nil {
		return err
	}
	if c.total != c.want {
		return errIncompleteBody
	}
	if c.trailing {
		if err := c.readTrailer(); err != nil {
			return err
		}
	}
	return c.drain()
}

// readTrailer reads "name:value" lines. A signed trailer ends with its
// signature, which some clients set off by an empty line.
func (c *chunkReader) readTrailer() error {
	c.trailer = map[string]string{}
	var canonical strings.Builder
	for range maxTrailerLines {
		line, err := c.line()
		if err != nil {
			return err
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case line == "" && c.signer == nil:
			return nil
		case line == "":
			continue
		case !ok || name == "":
			return errTrailerMalformed
		case name == "x-amz-trailer-signature" && c.signer != nil:
			sum := sha256.Sum256([]byte(canonical.String()))
			if !c.signer.verify("AWS4-HMAC-SHA256-TRAILER", hex.EncodeToString(sum[:]), value) {
				return errBadSignature.with("The signature of the trailer does not match.")
			}
			return nil
		}
		c.trailer[name] = value
		canonical.WriteString(name + ":" + value + "\n")
	}
	return errTrailerMalformed
}

// drain accepts the line ends that close a body, and nothing else.
func (c *chunkReader) drain() error {
	for range 5 {
		b, err := c.br.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return io.EOF
		case err != nil:
			return err
		case b != '\r' && b != '\n':
			return errChunkMalformed
		}
	}
	return errChunkMalformed
}

// line reads one short line without its end.
func (c *chunkReader) line() (string, error) {
	b, err := c.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errChunkMalformed
	}
	if err != nil {
		return "", cut(err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// cut makes an early end of the body what it is: not the end of the data.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errIncompleteBody
	}
	return err
}
