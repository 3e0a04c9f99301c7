package event

import "strings"

// ValidTraceParent says whether a text is a W3C traceparent: version, trace
// id, parent id and flags in lower-case hexadecimal, ids not all zero. Versions
// after 00 may go on behind a further dash.
func ValidTraceParent(s string) bool {
	const length = len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version := s[:2]
	if !lowerHex(version) || version == "ff" || !lowerHex(s[3:35]) || !lowerHex(s[36:52]) || !lowerHex(s[53:55]) {
		return false
	}
	if len(s) > length && (version == "00" || s[length] != '-') {
		return false
	}
	return !allZero(s[3:35]) && !allZero(s[36:52])
}

// TraceParent makes a W3C traceparent of an AWS trace header: X-Ray's form
// "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
// (members in any order, others ignored), or a traceparent as it is. It says
// false for every other text and where X-Ray names no parent.
func TraceParent(header string) (string, bool) {
	if ValidTraceParent(header) {
		return header, true
	}
	var trace, parent string
	flags := "00"
	for member := range strings.SplitSeq(header, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(member), "=")
		switch name {
		case "Root":
			if len(value) != 35 || !strings.HasPrefix(value, "1-") || value[10] != '-' {
				return "", false
			}
			trace = strings.ToLower(value[2:10] + value[11:])
		case "Parent":
			parent = strings.ToLower(value)
		case "Sampled":
			if value == "1" {
				flags = "01"
			}
		}
	}
	made := "00-" + trace + "-" + parent + "-" + flags
	if !ValidTraceParent(made) {
		return "", false
	}
	return made, true
}

// XRay makes an X-Ray trace header of a traceparent, false where it is none.
func XRay(traceParent string) (string, bool) {
	if !ValidTraceParent(traceParent) {
		return "", false
	}
	sampled := "0"
	if c := traceParent[54]; strings.IndexByte("13579bdf", c) >= 0 { // the lowest flag
		sampled = "1"
	}
	return "Root=1-" + traceParent[3:11] + "-" + traceParent[11:35] + ";Parent=" + traceParent[36:52] + ";Sampled=" + sampled, true
}

func lowerHex(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func allZero(s string) bool { return strings.Trim(s, "0") == "" }
