package pattern

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestParseAddressModel holds that no address is lost by the look that is
// taken before netip is asked, and that what is no address costs nothing.
func TestParseAddressModel(t *testing.T) {
	part := rapid.SampledFrom([]string{"0", "1", "01", "255", "256", "ffff", "db8", "12345", "g", "", ":", "::", ".", "%eth0", "1.2.3.4"})
	rapid.Check(t, func(t *rapid.T) {
		glue := rapid.SampledFrom([]string{".", ":", ""}).Draw(t, "glue")
		text := strings.Join(rapid.SliceOfN(part, 0, 9).Draw(t, "parts"), glue)
		want, err := netip.ParseAddr(text)
		ok := err == nil && want.Zone() == ""
		got, found := parseAddress([]byte(text))
		if found != ok || ok && got != want.Unmap() {
			t.Fatalf("%q: %v %v, want %v %v", text, got, found, want, ok)
		}
	})
	for _, text := range []string{"", "x", "10.0.0", "10.0.0.256", "10.0.0.0.0", "010.0.0.1", "1:2", "not an address", ":::", "12345::", "10.0.0.1/8"} {
		raw := []byte(text)
		if n := testing.AllocsPerRun(10, func() { parseAddress(raw) }); n != 0 {
			t.Errorf("%q: %v allocations", text, n)
		}
	}
}

// TestWildcardModel compares with a regular expression.
func TestWildcardModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		operand, expression, last := "", `(?s)\A`, ""
		for _, c := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "é", "*", `\*`, `\\`}), 0, 8).Draw(t, "operand") {
			if c == "*" && last == "*" {
				continue
			}
			last = c
			operand += c
			if c == "*" {
				expression += ".*"
			} else {
				expression += regexp.QuoteMeta(strings.TrimPrefix(c, `\`))
			}
		}
		w, wrong := parseWildcard(operand)
		if wrong != "" {
			t.Fatalf("%q: %s", operand, wrong)
		}
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "é", "*", `\`}), 0, 10).Draw(t, "text"), "")
		if got, want := w.match([]byte(text)), regexp.MustCompile(expression+`\z`).MatchString(text); got != want {
			t.Fatalf("%q on %q: %v, want %v", operand, text, got, want)
		}
	})
}

// TestFold reads every character that has a long upper case in each of its
// spellings, from both ends.
func TestFold(t *testing.T) {
	for r, upper := range longUpper {
		if utf8.RuneCountInString(upper) < 2 {
			t.Errorf("%q has the short upper case %q", r, upper)
		}
		f := fold("x" + string(r) + "y")
		for _, text := range []string{"x" + string(r) + "Y", "X" + upper + "y"} {
			if f.prefix([]byte(text)) != len(text) || !f.suffix([]byte("..."+text)) || f.prefix([]byte(text[:len(text)-1])) >= 0 {
				t.Errorf("%q does not read %q", r, text)
			}
		}
	}
	for _, c := range []struct {
		operand, text string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"ǅ", "ǆ", true},
		{"ǅ", "Ǆ", true},
		{"ǅ", "ǅ", true},
		{"İ", "i\u0307", true},
		{"I", "İ", false},
		{"ß", "ẞ", false},
		{"Σ", "σ", true},
		{"a1-é", "A1-É", true},
	} {
		if got := fold(c.operand).prefix([]byte(c.text)) == len(c.text); got != c.want {
			t.Errorf("%q on %q: %v, want %v", c.operand, c.text, got, c.want)
		}
	}
}
