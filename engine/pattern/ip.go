package pattern

import "net/netip"

// parseAddress reads an IP address without a zone. It asks netip only for what
// can be an address, since netip allocates for what is not.
func parseAddress(text []byte) (netip.Addr, bool) {
	const longest = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
	if len(text) < 2 || len(text) > longest || !addressShape(text) {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(view(text))
	return a.Unmap(), err == nil
}

// addressShape reports whether text is made as an address is: an IPv4 address
// exactly, an IPv6 address nearly (what passes wrongly costs an allocation).
func addressShape(text []byte) bool {
	colons, dots, digits, value, pairs := 0, 0, 0, 0, 0
	padded := false // the digits begin with a zero that an IPv4 address must not have
	for i, c := range text {
		switch {
		case c == ':':
			if i > 0 && text[i-1] == ':' {
				pairs++
			}
			colons++
			digits, value, padded = 0, 0, false
		case c == '.':
			if digits == 0 || value > 255 || padded {
				return false
			}
			dots++
			digits, value = 0, 0
		case c-'0' <= 9:
			padded = padded || digits == 1 && value == 0
			digits++
			value = value*10 + int(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f' && dots == 0:
			digits++
			value = 256
		default:
			return false
		}
		if digits > 4 {
			return false
		}
	}
	if colons == 0 {
		return dots == 3 && digits > 0 && value <= 255 && !padded
	}
	return colons >= 2 && colons <= 8 && pairs <= 1 && (pairs == 1 || colons == 7 || colons == 6 && dots == 3) && (dots == 0 || dots == 3)
}
