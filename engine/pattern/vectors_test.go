package pattern

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/weir-project/weir/engine/field"
)

// vector is a line of a vector file: a pattern with an event and the verdict,
// or a pattern (or text that is no object) that must or must not compile.
type vector struct {
	Pattern     json.RawMessage `json:"pattern"`
	PatternText *string         `json:"pattern_text"`
	Event       json.RawMessage `json:"event"`
	Match       bool            `json:"match"`
	Valid       bool            `json:"valid"`
	Name        string          `json:"name"`
	Tags        []string        `json:"tags"`
	Dialect     string          `json:"dialect"`
}

// gates reports whether the vector's verdict binds.
func (x vector) gates() bool {
	for _, tag := range x.Tags {
		if strings.HasPrefix(tag, "edge:") {
			return false
		}
	}
	return x.Dialect == ""
}

func (x vector) text() []byte {
	if x.PatternText != nil {
		return []byte(*x.PatternText)
	}
	return x.Pattern
}

func readVectors(t testing.TB, path string) []vector {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("SKIPPED: %s is not here", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []vector
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var x vector
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, x)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// matcher is a set with its projection, for tests.
type matcher struct {
	set     *Set
	program *field.Program
	values  field.Values
	scratch Scratch
	view    View
	dst     []uint32
}

func newMatcher(t interface{ Fatal(...any) }, rules ...*Pattern) *matcher {
	m := &matcher{set: NewSet(rules)}
	var err error
	if m.program, err = field.Compile(m.set.Fields(), field.Options{}); err != nil {
		t.Fatal(err)
	}
	m.view.Values = &m.values
	for i := range m.set.Fields() {
		m.view.Slots = append(m.view.Slots, int32(i))
	}
	return m
}

// match scans and matches; an event that the scan refuses matches nothing.
func (m *matcher) match(doc []byte) ([]uint32, error) {
	if err := m.program.Scan(doc, &m.values); err != nil {
		return nil, err
	}
	m.view.Doc = doc
	m.dst = m.set.Match(&m.view, &m.scratch, m.dst[:0])
	return m.dst, nil
}

func checkVectors(t *testing.T, path string) {
	vectors := readVectors(t, path)
	gated, wrong := 0, 0
	var rules []*Pattern
	var events [][]byte
	want := map[[2]int]bool{}
	for _, x := range vectors {
		if !x.gates() {
			continue
		}
		gated++
		p, err := Options{LastWins: true}.Compile(x.text())
		if x.Event == nil {
			if x.Valid != (err == nil) {
				wrong++
				t.Errorf("%s: compiles=%v, want %v (%v)\n%s", x.Name, err == nil, x.Valid, err, x.text())
			}
			continue
		}
		if err != nil {
			wrong++
			t.Errorf("%s: %v\n%s", x.Name, err, x.text())
			continue
		}
		m := newMatcher(t, p)
		got, err := m.match(x.Event)
		if err != nil || (len(got) == 1) != x.Match {
			wrong++
			t.Errorf("%s: match=%v (%v), want %v\n%s\n%s", x.Name, len(got) == 1, err, x.Match, x.text(), x.Event)
			continue
		}
		if v := p.Explain(&m.view); v.Matched != x.Match {
			t.Errorf("%s: Explain says %v\n%s\n%s", x.Name, v, x.text(), x.Event)
		}
		want[[2]int{len(rules), len(events)}] = x.Match
		rules, events = append(rules, p), append(events, x.Event)
	}
	t.Logf("%d vectors, %d gate, %d differ", len(vectors), gated, wrong)
	checkOneSet(t, rules, events, want)
}

// checkOneSet puts all rules in one set and compares the known verdicts.
func checkOneSet(t *testing.T, rules []*Pattern, events [][]byte, want map[[2]int]bool) {
	m := newMatcher(t, rules...)
	for i, event := range events {
		got, err := m.match(event)
		if err != nil {
			t.Errorf("in one set: %v\n%s", err, event)
			continue
		}
		matched := map[uint32]bool{}
		for k, rule := range got {
			if k > 0 && rule <= got[k-1] {
				t.Fatalf("rules out of order: %v", got)
			}
			matched[rule] = true
		}
		if verdict := want[[2]int{i, i}]; matched[uint32(i)] != verdict {
			t.Errorf("in one set: match=%v, want %v\n%s\n%s", matched[uint32(i)], verdict, rules[i], event)
		}
	}
}

// TestEventBridgeVectors compares with verdicts recorded from the service and
// its open implementations, where that file is at hand.
func TestEventBridgeVectors(t *testing.T) {
	checkVectors(t, "../../../shared/vectors/patterns.jsonl")
}

func TestOwnVectors(t *testing.T) { checkVectors(t, "testdata/vectors.jsonl") }
