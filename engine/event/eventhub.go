package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// The Event-Hub envelope:
//
//	{"request_id":..,"source":..,"name":"noun:verb","timestamp":..,"payload":data}
//
// written with an id and a processed_timestamp where Weir knows them.

// eventHub makes the id where the envelope holds none: one request makes
// several events.
func (d *decoder) eventHub() *Error {
	last := len(d.chain) - 1
	request := d.tree.get(last, []string{"request_id"})
	if reason := notText(request, false); reason != "" {
		return d.wrong("request_id", reason, request)
	}
	if d.ev.ID == "" {
		d.ev.ID = d.tree.hubID()
	}
	return nil
}

// hubID is request_id/hash128(name, timestamp, payload): the first 16 bytes of
// SHA-256 over the parts, each behind its length in 8 bytes big-endian. The
// timestamp's and payload's bytes are hashed as they stand in the JSON.
func (t *tree) hubID() string {
	last := t.last()
	text := func(name string) string {
		value := t.get(last, []string{name})
		if value == nil || value[0] != '"' {
			return string(value)
		}
		return unquote(value)
	}
	h := sha256.New()
	for _, part := range [...]string{text("name"), text("timestamp"), string(t.get(last, []string{"payload"}))} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return text("request_id") + "/" + hex.EncodeToString(h.Sum(nil)[:16])
}

// nounVerb says whether a name has two parts that a colon divides.
func nounVerb(name string) bool {
	noun, verb, ok := strings.Cut(name, ":")
	return ok && noun != "" && verb != "" && !strings.ContainsAny(verb, ":") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// uriReference percent-encodes what a URI reference cannot hold. What is
// percent-encoded already stays.
func uriReference(s string) string {
	const legal = "-._~:/?#[]@!$&'()*+,;="
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(legal, c) >= 0,
			c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b.WriteByte(c)
		default:
			writePercent(&b, c)
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func writePercent(b *strings.Builder, c byte) {
	const digits = "0123456789ABCDEF"
	b.Write([]byte{'%', digits[c>>4], digits[c&15]})
}
