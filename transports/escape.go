package transports

// Escaping says how the value of a placeholder is written into a text that is a
// template, so that it stays a value there. What the template itself says stands as it is.
type Escaping uint8

// Ways of writing values.
const (
	// EscapeNone writes a value as it is.
	EscapeNone Escaping = iota
	// EscapeURL percent-encodes all but letters, digits and - . _ ~: a value is then one
	// segment of a path, or one value of a query, whatever it holds. A segment may still
	// become empty, . or .. by it.
	EscapeURL
	// EscapeHeader percent-encodes what the CloudEvents HTTP binding says: the space, the
	// double quote, the percent sign and what is not ASCII. Control characters stay, for
	// the sink to refuse.
	EscapeHeader
)

// Append appends a value, which is UTF-8, to dst.
func (e Escaping) Append(dst, value []byte) []byte {
	if e == EscapeNone {
		return append(dst, value...)
	}
	const digits = "0123456789ABCDEF"
	for _, c := range value {
		if e.plain(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}

func (e Escaping) plain(c byte) bool {
	if e == EscapeHeader {
		return c != ' ' && c != '"' && c != '%' && c <= 0x7f
	}
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}
