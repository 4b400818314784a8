package egress

import (
	"bytes"
	"net/http"
	"strconv"
)

// bodyFollower finds the end of a request body in a byte stream without
// changing it, so that the next header block on the connection can be vetted.
// The chunked coding is read as strictly as the header: CRLF line ends, plain
// hexadecimal sizes, no control characters in extensions, proper trailer lines.
type bodyFollower struct {
	chunked bool
	left    int64 // of the body, or of the current chunk
	state   chunkState
	line    []byte // the current size, data-end or trailer line
	trailer int    // bytes of trailer section so far
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkDataEnd
	chunkTrailer
	chunkDone
)

// Bounds of lines between chunks, in bytes.
const (
	maxChunkLine = 1 << 10
	maxTrailer   = 8 << 10
)

func newBodyFollower(length int64) *bodyFollower {
	return &bodyFollower{chunked: length < 0, left: max(length, 0)}
}

func (f *bodyFollower) done() bool {
	if f.chunked {
		return f.state == chunkDone
	}
	return f.left == 0
}

// limit is how many more bytes surely belong to the body, out of n.
func (f *bodyFollower) limit(n int) int {
	if f.chunked {
		return n
	}
	return int(min(int64(n), f.left))
}

// consume returns how many bytes of b belong to the body. It never looks past
// the body's end.
func (f *bodyFollower) consume(b []byte) (int, *refusal) {
	if !f.chunked {
		n := f.limit(len(b))
		f.left -= int64(n)
		return n, nil
	}
	used := 0
	for used < len(b) && f.state != chunkDone {
		if f.state == chunkData {
			n := int(min(f.left, int64(len(b)-used)))
			used += n
			if f.left -= int64(n); f.left == 0 {
				f.state = chunkDataEnd
			}
			continue
		}
		n, complete, refused := f.readLine(b[used:])
		used += n
		if refused == nil && complete {
			refused = f.endLine()
		}
		if refused != nil {
			return used, refused
		}
	}
	return used, nil
}

// readLine adds to f.line up to and including an LF.
func (f *bodyFollower) readLine(b []byte) (n int, complete bool, refused *refusal) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b, complete = b[:i+1], true
	}
	if len(f.line)+len(b) > maxChunkLine {
		return len(b), false, badChunk("a line between chunks is too long")
	}
	f.line = append(f.line, b...)
	return len(b), complete, nil
}

// endLine acts on a complete f.line.
func (f *bodyFollower) endLine() *refusal {
	line, ok := bytes.CutSuffix(f.line, crlf)
	if !ok {
		return badChunk("a line between chunks does not end in CRLF")
	}
	switch f.state {
	case chunkSize:
		size, refused := parseChunkSize(line)
		if refused != nil {
			return refused
		}
		f.left, f.state = size, chunkData
		if size == 0 {
			f.state = chunkTrailer
		}
	case chunkDataEnd:
		if len(line) != 0 {
			return badChunk("a chunk is longer than its size")
		}
		f.state = chunkSize
	case chunkTrailer:
		if len(line) == 0 {
			f.state = chunkDone
			break
		}
		if f.trailer += len(f.line); f.trailer > maxTrailer {
			return badChunk("the trailer section is too long")
		}
		if _, _, refused := vetField(line); refused != nil {
			return refused
		}
	}
	f.line = f.line[:0]
	return nil
}

// parseChunkSize reads 1*HEXDIG [";" extension] (RFC 9112 section 7.1).
func parseChunkSize(line []byte) (int64, *refusal) {
	digits, extension, _ := bytes.Cut(line, []byte(";"))
	for _, c := range extension {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return 0, badChunk("a chunk extension has a byte that is not visible ASCII")
		}
	}
	for _, c := range digits {
		if !isDigit(c) && !('a' <= c && c <= 'f') && !('A' <= c && c <= 'F') {
			return 0, badChunk("a chunk size is not a hexadecimal number")
		}
	}
	// 15 digits stay clear of where parsers overflow differently.
	if len(digits) == 0 || len(digits) > 15 {
		return 0, badChunk("a chunk size is not a hexadecimal number of 1 to 15 digits")
	}
	n, err := strconv.ParseInt(string(digits), 16, 64)
	if err != nil {
		return 0, badChunk("a chunk size is not a hexadecimal number")
	}
	return n, nil
}

func badChunk(text string) *refusal {
	return refuse(http.StatusBadRequest, reasonFraming, "ambiguous request: %s", text)
}
