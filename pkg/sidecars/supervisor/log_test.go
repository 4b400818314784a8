package supervisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestLogText(t *testing.T) {
	for _, test := range []struct {
		name, in, want string
	}{
		{"lines", "one\ntwo\n", "d | one\nd | two\n"},
		{"empty lines", "\n\n", "d | \nd | \n"},
		{"no newline at the end", "one\ntwo", "d | one\nd | two\n"},
		{"nothing", "", ""},
		{"carriage return before the newline", "dos\r\n", "d | dos\n"},
		{"carriage return elsewhere", "fake\rsupervisor | all is well\n", `d | fake\x0dsupervisor | all is well` + "\n"},
		{"escape sequences", "\x1b[2J\a\x7f", `d | \x1b[2J\x07\x7f` + "\n"},
		{"C1 controls", "\u009b2J", `d | \u009b2J` + "\n"},
		{"no UTF-8", "a\xff\xc3b\xe2\x82", `d | a\xff\xc3b\xe2\x82` + "\n"},
		{"NUL", "a\x00b", `d | a\x00b` + "\n"},
		{"bidirectional controls", "a\u202eb\u2066c", `d | a\u202eb\u2066c` + "\n"},
		{"line separators", "a\u2028b\u2029c", `d | a\u2028b\u2029c` + "\n"},
		{"what is left alone", "tab\there, \\ back, é, 世界, 🏳️‍🌈", "d | tab\there, \\ back, é, 世界, 🏳️‍🌈\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, reader := range map[string]io.Reader{
				"at once":       strings.NewReader(test.in),
				"byte by byte":  iotest.OneByteReader(strings.NewReader(test.in)),
				"end with data": iotest.DataErrReader(strings.NewReader(test.in)),
			} {
				var out strings.Builder
				NewLog(&out, Text).Copy("d", "stdout", reader)
				if diff := cmp.Diff(test.want, out.String()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

func TestLogJSON(t *testing.T) {
	var out strings.Builder
	log := NewLog(&out, JSON)
	log.now = func() time.Time { return time.Date(2030, 2, 3, 4, 5, 6, 7000, time.FixedZone("", 3600)) }
	log.Printf("hello %d", 1)
	log.Copy("egress", "stdout", strings.NewReader(`{"host": "a<b>", "n": 1e400}`+"\n"+`{"half`+"\n"+`[1]`+"\n"))
	log.Copy("egress", "stderr", strings.NewReader("\x1b[0m \xff \"quoted\"\n\n"+`{"x":"`+"\xff"+`"}`))
	want := `{"time":"2030-02-03T03:05:06.000007Z","daemon":"supervisor","text":"hello 1"}
{"time":"2030-02-03T03:05:06.000007Z","daemon":"egress","stream":"stdout","event":{"host":"a<b>","n":1e400}}
{"time":"2030-02-03T03:05:06.000007Z","daemon":"egress","stream":"stdout","text":"{\"half"}
{"time":"2030-02-03T03:05:06.000007Z","daemon":"egress","stream":"stdout","text":"[1]"}
{"time":"2030-02-03T03:05:06.000007Z","daemon":"egress","stream":"stderr","text":"\u001b[0m \\xff \"quoted\""}
{"time":"2030-02-03T03:05:06.000007Z","daemon":"egress","stream":"stderr","text":""}
{"time":"2030-02-03T03:05:06.000007Z","daemon":"egress","stream":"stderr","text":"{\"x\":\"\\xff\"}"}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLogKeepsEveryByte feeds any bytes in any portions and compares what comes
// out, put together again, with a model that has no limits.
func TestLogKeepsEveryByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]string{"a", "é", "世", "🏳", "\x00", "\xff", "\xe4\xb8", "\r", "\n", "\r\n", "{}"})
		times := rapid.OneOf(rapid.IntRange(1, 3), rapid.IntRange(MaxLine-3, MaxLine+3), rapid.IntRange(1, MaxLine))
		var in []byte
		for range rapid.IntRange(0, 4).Draw(t, "runs") {
			in = append(in, strings.Repeat(unit.Draw(t, "unit"), times.Draw(t, "times"))...)
		}
		portion := rapid.IntRange(64, 2*MaxLine).Draw(t, "portion")

		var out bytes.Buffer
		NewLog(&out, JSON).Copy("d", "stdout", &portions{in, portion})

		var got []string
		var whole strings.Builder
		for line := range bytes.Lines(out.Bytes()) {
			if len(line) > MaxLine {
				t.Fatalf("a line of %d bytes", len(line))
			}
			var record struct {
				Text    string
				Event   json.RawMessage
				Partial bool
			}
			if err := json.Unmarshal(line, &record); err != nil {
				t.Fatal(err)
			}
			whole.WriteString(record.Text)
			whole.Write(record.Event)
			if !record.Partial {
				got = append(got, whole.String())
				whole.Reset()
			}
		}
		if whole.Len() > 0 {
			t.Fatalf("the last piece of a line is missing: %.100q", whole.String())
		}

		var want []string
		for line := range bytes.Lines(in) {
			if text, ended := bytes.CutSuffix(line, []byte("\n")); ended {
				line = bytes.TrimSuffix(text, []byte("\r"))
			}
			want = append(want, escape(line, func(rune) bool { return false }))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%.2000s", diff)
		}
	})
}

// portions is a reader that returns at most n bytes at a time.
type portions struct {
	rest []byte
	n    int
}

func (p *portions) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.n)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func TestLogCutsBetweenCharacters(t *testing.T) {
	for _, char := range []string{"é", "世", "🏳"} {
		for shift := range len(char) {
			in := strings.Repeat("x", shift) + strings.Repeat(char, MaxLine)
			var out bytes.Buffer
			NewLog(&out, Text).Copy("d", "stdout", strings.NewReader(in))
			var got strings.Builder
			for line := range strings.Lines(out.String()) {
				if len(line) > MaxLine {
					t.Errorf("a line of %d bytes", len(line))
				}
				got.WriteString(strings.TrimSuffix(strings.TrimPrefix(line, "d | "), "\n"))
			}
			if got.String() != in {
				t.Errorf("%d bytes and then %q do not come out as they went in", shift, char)
			}
		}
	}
}

// TestLogHoldsNoMoreThanALine has a daemon write without end and newline.
func TestLogHoldsNoMoreThanALine(t *testing.T) {
	const size = 4 << 20
	var out counter
	allocated := testing.AllocsPerRun(1, func() {
		out = counter{}
		NewLog(&out, Text).Copy("d", "stdout", io.LimitReader(endless{}, size))
	})
	if out.longest > MaxLine || out.total < size {
		t.Errorf("%d bytes in lines of up to %d", out.total, out.longest)
	}
	if perLine := allocated / float64(out.lines); perLine > 20 {
		t.Errorf("%.1f allocations a line", perLine)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

type counter struct{ total, longest, lines int }

func (c *counter) Write(b []byte) (int, error) {
	c.total += len(b)
	c.longest = max(c.longest, len(b))
	c.lines++
	return len(b), nil
}

func TestLogWritesWholeLinesOfManyDaemons(t *testing.T) {
	var out bytes.Buffer
	log := NewLog(&out, Text)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				log.Copy(fmt.Sprint("d", i), "stdout", strings.NewReader(strings.Repeat(fmt.Sprint(i), 500)))
			}
		})
	}
	wg.Wait()
	lines := 0
	for line := range strings.Lines(out.String()) {
		lines++
		daemon, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " | ")
		if want := strings.Repeat(strings.TrimPrefix(daemon, "d"), 500); text != want {
			t.Fatalf("a line is %q", line)
		}
	}
	if lines != 800 {
		t.Errorf("%d lines, want 800", lines)
	}
}

func TestEscapeYieldsPrintableUTF8(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Byte()).Draw(t, "in")
		got := escape(in, unprintable)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unprintable) {
			t.Fatalf("%q became %q", in, got)
		}
	})
}
