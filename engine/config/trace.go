package config

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// maxTraceQueue bounds the traced events that wait to be sent.
const maxTraceQueue = 100_000

// ratio reads a part of a whole.
func ratio(dst *float64) reader {
	return reader{
		read: func(f *findings, n *node, path string) {
			if !n.isTyped() {
				f.wrongType(n, path, "a number from 0 to 1")
				return
			}
			v, err := strconv.ParseFloat(n.text, 64)
			if err != nil || !(v >= 0 && v <= 1) {
				f.add(n.at, path, fmt.Sprintf("%s is not a number from 0 to 1", n.what()), "")
				return
			}
			*dst = v
		},
		schema: func() schema { return orReference(schema{"type": "number", "minimum": 0, "maximum": 1}) },
	}
}

// checkTrace checks what the settings of traces mean together.
func (f *file) checkTrace(section *node) {
	t := &f.plan.Node.Trace
	if t.Endpoint != "" {
		u, err := url.Parse(t.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			f.add(f.placeOf("node.trace.endpoint", section), "node.trace.endpoint", "not a URL of a receiver", "such as http://localhost:4318/v1/traces")
		}
	}
	if name, _, ok := strings.Cut(t.Header, ":"); t.Header != "" && (!ok || strings.TrimSpace(name) == "") {
		f.add(f.placeOf("node.trace.header", section), "node.trace.header", "not a header", "such as Authorization: Bearer ...")
	}
}
