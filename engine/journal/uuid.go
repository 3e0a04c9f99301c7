package journal

import "encoding/binary"

// Most ids are UUIDs in their usual form, 36 bytes of text for 16. They are more than
// half of an entry, and what is not written is neither copied nor synced.

const (
	uuidText  = 36
	uuidBytes = 16

	eachByte = 0x0101010101010101
)

// appendUUID appends the bytes of an id that is a UUID in lower case with hyphens, and
// says whether it is one. Eight digits are read at a time.
func appendUUID(b, id []byte) ([]byte, bool) {
	if len(id) != uuidText || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return b, false
	}
	half := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(id[i:])) }
	b0, ok0 := digits(binary.LittleEndian.Uint64(id))
	b1, ok1 := digits(half(9) | half(14)<<32)
	b2, ok2 := digits(half(19) | half(24)<<32)
	b3, ok3 := digits(binary.LittleEndian.Uint64(id[28:]))
	if !ok0 || !ok1 || !ok2 || !ok3 {
		return b, false
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(b0)|uint64(b1)<<32)
	return binary.LittleEndian.AppendUint64(b, uint64(b2)|uint64(b3)<<32), true
}

// digits turns eight hexadecimal digits into four bytes; false = they are not that, or
// upper case.
func digits(text uint64) (uint32, bool) {
	letter := text >> 6 & eachByte
	n := text&(0x0f*eachByte) + 9*letter // a digit's value in each byte, if it is one
	if high := (n + 6*eachByte) >> 4 & eachByte; n&(0xf0*eachByte) != 0 || n+'0'*eachByte+('a'-'0'-10)*high != text {
		return 0, false
	}
	n = (n<<4 | n>>8) & 0x00ff00ff00ff00ff
	n = (n | n>>8) & 0x0000ffff0000ffff
	return uint32(n | n>>16), true
}

// appendUUIDText is the inverse of appendUUID.
func appendUUIDText(b []byte, id [uuidBytes]byte) []byte {
	const hex = "0123456789abcdef"
	for i, c := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = append(b, hex[c>>4], hex[c&15])
	}
	return b
}
