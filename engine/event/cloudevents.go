package event

import "strings"

// cloudEvent checks what the CloudEvents JSON format asks for beyond the table.
func (d *decoder) cloudEvent() *Error {
	last := len(d.chain) - 1
	version := d.tree.get(last, []string{"specversion"})
	if version[0] != '"' || unquote(version) != "1.0" {
		return d.wrong("specversion", "is not 1.0", version)
	}
	if expiry := d.tree.get(last, []string{"expirytime"}); expiry != nil && expiry[0] != 'n' {
		if _, err := readTime(expiry, CloudEvents, Missing{}); err != nil {
			return d.wrong("expirytime", err.Reason, expiry)
		}
	}
	return nil
}

// openExtensions takes every member that is nothing else for an extension attribute.
func (d *decoder) openExtensions(i int) *Error {
	bridged := (&Layout{Chain: d.chain}).bridge() >= 0
	for _, m := range d.tree.levels[i] {
		if isCore(m.name) || reservedName(m.name) || m.value[0] == 'n' ||
			m.name == carriedName && d.ev.carried != nil || bridged && bridgeOwns(m.name) {
			continue
		}
		if !validName(m.name) {
			return d.wrong(m.name, "is no attribute name: only a-z and 0-9", m.value)
		}
		value, ok := attributeValue(m.value)
		if !ok {
			return d.wrong(m.name, "is no string, boolean or integer of 32 bits", m.value)
		}
		d.ev.Extensions = append(d.ev.Extensions, Attribute{m.name, value})
	}
	return nil
}

// reservedName says that a member of a CloudEvent is no extension attribute
// and no core attribute.
func reservedName(name string) bool {
	return name == "specversion" || name == "data" || name == "data_base64"
}

// mediaType says whether a text begins as a media type does (type/subtype,
// parameters behind a semicolon) and can stand in a header.
func mediaType[T string | []byte](s T) bool {
	slash, end := -1, len(s)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ' && c != '\t' || c >= 0x7f:
			return false
		case end < len(s): // parameters
		case c == ';':
			end = i
		case c == '/' && slash < 0:
			slash = i
		}
	}
	for end > 0 && (s[end-1] == ' ' || s[end-1] == '\t') {
		end--
	}
	return slash > 0 && slash < end-1 && token(s[:slash]) && token(s[slash+1:end])
}

func token[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ' ', '\t', '(', ')', '<', '>', '@', ',', ';', ':', '\\', '"', '/', '[', ']', '?', '=':
			return false
		}
	}
	return true
}

// jsonMedia says whether a media type declares JSON: */json or *+json.
func jsonMedia(s string) bool {
	s, _, _ = strings.Cut(s, ";")
	_, subtype, _ := strings.Cut(strings.ToLower(strings.TrimSpace(s)), "/")
	return subtype == "json" || strings.HasSuffix(subtype, "+json")
}
