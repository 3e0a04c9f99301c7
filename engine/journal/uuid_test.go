package journal

import (
	"regexp"
	"testing"

	"pgregory.net/rapid"
)

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// An id is shortened exactly when it has the usual form of a UUID, and comes back as
// it was: another spelling of the same number is another id.
func TestUUIDsComeBackAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := []byte(rapid.StringMatching(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).Draw(t, "id"))
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			id[rapid.IntRange(0, len(id)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		b, ok := appendUUID(nil, id)
		if want := uuidForm.Match(id); ok != want {
			t.Fatalf("%q: shortened %v, want %v", id, ok, want)
		}
		if !ok {
			return
		}
		if got := appendUUIDText(nil, [uuidBytes]byte(b)); string(got) != string(id) {
			t.Fatalf("%q came back as %q", id, got)
		}
	})
}

// Every byte at every place of a word of digits is judged.
func TestDigitsJudgeEveryByte(t *testing.T) {
	for at := range 8 {
		for c := range 256 {
			word := uint64(0x3030303030303030)&^(0xff<<(8*at)) | uint64(c)<<(8*at)
			_, ok := digits(word)
			if want := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'; ok != want {
				t.Errorf("byte %#x at %d: %v, want %v", c, at, ok, want)
			}
		}
	}
}
