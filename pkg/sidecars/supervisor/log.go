package supervisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxLine is the length in bytes, newline included, that no line of a [Log]
// exceeds: what Docker's log drivers take as one message. It also bounds what is
// kept of a line whose end has not come yet.
const MaxLine = 16 << 10

// Format is how a [Log] writes a line.
type Format int

const (
	// Text is "daemon | text". Control characters other than the tab, bytes that
	// are not UTF-8, line separators and bidirectional controls are written as
	// \x1b or \u202e are; a backslash stands for itself.
	Text Format = iota

	// JSON is an object with the time (RFC 3339, UTC), the daemon, the stream
	// ("stdout" or "stderr"; none on the supervisor's own lines), and what was
	// written: as "event" where that is a JSON object itself, as "text"
	// otherwise, with bytes that are not UTF-8 escaped as in Text. A piece of a
	// longer line whose rest follows has "partial": true.
	JSON
)

// Log writes lines from many daemons to one writer, each with a single call of
// Write. A line that would exceed MaxLine is split into several. It is safe for
// concurrent use. Errors of the writer are ignored: there is nowhere else to
// report them, and the daemons are not to die of it.
type Log struct {
	format Format
	now    func() time.Time

	mu sync.Mutex
	w  io.Writer
}

// NewLog returns a Log that writes to w.
func NewLog(w io.Writer, format Format) *Log {
	return &Log{format: format, now: time.Now, w: w}
}

// Printf writes a line of the supervisor's own.
func (l *Log) Printf(format string, args ...any) {
	l.write(selfName, "", fmt.Appendf(nil, format, args...), false)
}

// Copy writes what r yields as lines of the named daemon until r ends or fails.
// A last line without a newline is a line too.
func (l *Log) Copy(daemon, stream string, r io.Reader) {
	// More than MaxLine by what can end a line: then a piece is cut off only when
	// something of the line is left for the last one.
	buf := make([]byte, MaxLine+len("\r\n"))
	n := 0
	for {
		read, err := r.Read(buf[n:])
		n += read
		rest := buf[:n]
		for {
			line, after, found := bytes.Cut(rest, []byte("\n"))
			if !found {
				break
			}
			l.write(daemon, stream, bytes.TrimSuffix(line, []byte("\r")), false)
			rest = after
		}
		if len(rest) == len(buf) {
			cut := runeBoundary(rest, MaxLine)
			l.write(daemon, stream, rest[:cut], true)
			rest = rest[cut:]
		}
		n = copy(buf, rest)
		if err != nil {
			if n > 0 {
				l.write(daemon, stream, buf[:n], false)
			}
			return
		}
	}
}

// write writes text as one line, or as several where one would be too long.
func (l *Log) write(daemon, stream string, text []byte, partial bool) {
	line := l.encode(daemon, stream, text, partial)
	if half := runeBoundary(text, len(text)/2); len(line) > MaxLine && half > 0 {
		l.write(daemon, stream, text[:half], true)
		l.write(daemon, stream, text[half:], partial)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(line)
}

// runeBoundary returns the largest index up to i at which text can be cut
// without cutting a character of UTF-8 in two, or i where that would be 0.
func runeBoundary(text []byte, i int) int {
	for back := 1; back < utf8.UTFMax && back < i; back++ {
		start := i - back
		if !utf8.RuneStart(text[start]) {
			continue
		}
		if text[start] >= utf8.RuneSelf {
			if _, size := utf8.DecodeRune(text[start:]); size > back || !utf8.FullRune(text[start:]) {
				return start
			}
		}
		break
	}
	return i
}

func (l *Log) encode(daemon, stream string, text []byte, partial bool) []byte {
	if l.format == Text {
		return []byte(daemon + " | " + escape(text, unprintable) + "\n")
	}
	record := struct {
		Time    string          `json:"time"`
		Daemon  string          `json:"daemon"`
		Stream  string          `json:"stream,omitempty"`
		Text    *string         `json:"text,omitempty"`
		Event   json.RawMessage `json:"event,omitempty"`
		Partial bool            `json:"partial,omitempty"`
	}{
		Time:    l.now().UTC().Format(time.RFC3339Nano),
		Daemon:  daemon,
		Stream:  stream,
		Partial: partial,
	}
	if bytes.HasPrefix(text, []byte("{")) && utf8.Valid(text) && json.Valid(text) {
		record.Event = text
	} else {
		s := escape(text, func(rune) bool { return false })
		record.Text = &s
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	// Strings, a bool and a message that has just been found valid always encode.
	_ = encoder.Encode(record)
	return line.Bytes()
}

// escape returns text with the bytes that are not UTF-8, and the characters that
// special picks, in the form of a Go escape sequence.
func escape(text []byte, special func(rune) bool) string {
	var s strings.Builder
	s.Grow(len(text))
	plain := 0 // where what is to be copied as it is begins
	for i := 0; i < len(text); {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(text[i:])
		}
		invalid := r == utf8.RuneError && size == 1
		if invalid || (r < ' ' || r > '~') && special(r) {
			s.Write(text[plain:i])
			if invalid || r < utf8.RuneSelf {
				fmt.Fprintf(&s, `\x%02x`, text[i])
			} else {
				fmt.Fprintf(&s, `\u%04x`, r)
			}
			plain = i + size
		}
		i += size
	}
	s.Write(text[plain:])
	return s.String()
}

// unprintable reports whether r could move the cursor, end the line or reorder
// what stands beside it.
func unprintable(r rune) bool {
	if r == '\t' {
		return false
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) ||
		r == '\u2028' || r == '\u2029'
}
