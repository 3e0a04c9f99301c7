package pattern

import (
	"fmt"
	"strings"
	"testing"
)

// mixedRules are rules of five shapes, of which few fit the event.
func mixedRules(tb testing.TB, n int) []*Pattern {
	shapes := []string{
		`{"detail":{"id":["id-%d"],"state":["running","stopped"]}}`,
		`{"source":[{"prefix":"aws.%d."}],"detail":{"state":["running"]}}`,
		`{"detail":{"id":["id-%d"],"state":[{"anything-but":"stopped"}]}}`,
		`{"detail":{"id":["id-%d"],"reason":[{"exists":false}]}}`,
		`{"detail":{"id":["id-%d"],"count":[{"exists":true}],"tags":{"key":[{"wildcard":"a*z"}]}}}`,
	}
	rules := make([]*Pattern, n)
	for i := range rules {
		p, err := Compile(fmt.Appendf(nil, shapes[i%len(shapes)], i))
		if err != nil {
			tb.Fatal(err)
		}
		rules[i] = p
	}
	return rules
}

var benchEvent = []byte(`{"version":"0","id":"6a7e8feb-b491-4cf7-a9f1-bf3703467718","detail-type":"EC2 Instance State-change Notification","source":"aws.7.ec2","account":"111122223333","time":"2017-12-22T18:43:48Z","region":"us-west-1","resources":["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],"detail":{"id":"id-42","instance-id":"i-1234567890abcdef0","state":"running","count":7,"ip":"10.1.2.3","note":"a \"quoted\" note","tags":[{"key":"abcz","value":"1"},{"key":"b","value":"2"}]}}`)

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := newMatcher(b, mixedRules(b, n)...)
			if err := m.program.Scan(benchEvent, &m.values); err != nil {
				b.Fatal(err)
			}
			m.view.Doc = benchEvent
			b.ReportAllocs()
			for b.Loop() {
				m.dst = m.set.Match(&m.view, &m.scratch, m.dst[:0])
			}
		})
	}
}

func BenchmarkScanAndMatch(b *testing.B) {
	m := newMatcher(b, mixedRules(b, 100)...)
	b.ReportAllocs()
	b.SetBytes(int64(len(benchEvent)))
	for b.Loop() {
		if _, err := m.match(benchEvent); err != nil {
			b.Fatal(err)
		}
	}
}

// TestMatchAllocates nothing, with every operator in the set.
func TestMatchAllocates(t *testing.T) {
	rules := mixedRules(t, 100)
	for _, text := range []string{
		`{"detail":{"note":["a \"quoted\" note"],"tags":{"key":["b"],"value":["2"]}}}`,
		`{"detail":{"ip":[{"cidr":"10.0.0.0/8"}],"count":[{"numeric":[">",1,"<",9]}]}}`,
		`{"source":[{"cidr":"10.0.0.0/8"},{"suffix":"EC2"},{"suffix":{"equals-ignore-case":"EC2"}},{"equals-ignore-case":"x"}]}`,
		`{"detail":{"tags":{"key":["b"],"value":["1"]},"gone":[{"exists":false}]}}`,
	} {
		p, err := Compile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, p)
	}
	m := newMatcher(t, rules...)
	got, err := m.match(benchEvent)
	if err != nil || fmt.Sprint(got) != "[42 100 101 102]" {
		t.Fatalf("got %v (%v), want 42 and the last but one", got, err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := m.match(benchEvent); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations an event, want none", n)
	}
}

// TestManyPrefixLengths has more lengths of prefix on one field than are
// looked up, so that both ways to find one are taken.
func TestManyPrefixLengths(t *testing.T) {
	text := strings.Repeat("abcdefgh", 10)
	var rules []*Pattern
	for n := range 3 * maxPrefixLengths {
		p, err := Compile(fmt.Appendf(nil, `{"s":[{"prefix":%q}]}`, text[:n]))
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, p)
	}
	m := newMatcher(t, rules...)
	for _, length := range []int{0, 1, 7, maxPrefixLengths, 2*maxPrefixLengths + 3, len(text)} {
		got, err := m.match(fmt.Appendf(nil, `{"s":%q}`, text[:length]))
		if want := min(length+1, len(rules)); err != nil || len(got) != want {
			t.Errorf("%d bytes: %d rules (%v), want %d", length, len(got), err, want)
		}
		got, err = m.match(fmt.Appendf(nil, `{"s":%q}`, "X"+text[:length]))
		if err != nil || len(got) != 1 {
			t.Errorf("%d other bytes: rules %v (%v), want the empty prefix only", length, got, err)
		}
	}
}
