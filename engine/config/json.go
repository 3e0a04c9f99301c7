package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// readJSON reads a JSON file into the same nodes as readYAML. JSON is part of
// YAML, but the YAML parser loses columns at tabs and stumbles over what JSON
// allows, and a .json file that is no JSON should be told so.
func readJSON(r *refs, file string, data []byte) (root *node) {
	if !utf8.Valid(data) {
		r.add(place{file, validLine(data), 1}, "", "the file is not UTF-8", "")
		return nil
	}
	j := &jsonReader{refs: r, file: file, data: string(data), line: 1}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		stop, ok := p.(*placed)
		if !ok {
			panic(p)
		}
		r.add(stop.at, "", "not JSON: "+stop.text, "")
		root = nil
	}()
	root = j.value(0)
	if j.space(); j.pos < len(j.data) {
		j.fail("text after the end")
	}
	return root
}

// jsonReader reads by recursive descent; it leaves by a panic with *placed,
// which readJSON catches.
type jsonReader struct {
	refs      *refs
	file      string
	data      string
	pos       int
	line      int
	lineStart int
}

func (j *jsonReader) at() place {
	return place{j.file, j.line, utf8.RuneCountInString(j.data[j.lineStart:j.pos]) + 1}
}

func (j *jsonReader) fail(format string, args ...any) {
	panic(&placed{j.at(), fmt.Sprintf(format, args...)})
}

func (j *jsonReader) space() {
	for ; j.pos < len(j.data); j.pos++ {
		switch j.data[j.pos] {
		case '\n':
			j.line++
			j.lineStart = j.pos + 1
		case ' ', '\t', '\r':
		default:
			return
		}
	}
}

// next skips space and takes one of the wanted bytes.
func (j *jsonReader) next(wanted string) byte {
	j.space()
	if j.pos == len(j.data) {
		j.fail("the end, where %s should be", readable(wanted))
	}
	c := j.data[j.pos]
	if !strings.Contains(wanted, string(rune(c))) {
		j.fail("%s should be here", readable(wanted))
	}
	j.pos++
	return c
}

// readable spells out alternatives: ", or ]".
func readable(wanted string) string {
	if wanted == `"` {
		return "a name in quotes"
	}
	return strings.Join(strings.Split(wanted, ""), " or ")
}

func (j *jsonReader) value(depth int) *node {
	j.space()
	if j.pos == len(j.data) {
		j.fail("the end, where a value should be")
	}
	if depth > maxDepth {
		j.fail("nested deeper than %d", maxDepth)
	}
	at := j.at()
	switch j.data[j.pos] {
	case '{':
		return j.object(at, depth)
	case '[':
		return j.array(at, depth)
	case '"':
		return j.refs.scalar(at, j.text(), false)
	}
	start := j.pos
	for j.pos < len(j.data) && !strings.ContainsRune(" \t\r\n,:[]{}\"", rune(j.data[j.pos])) {
		j.pos++
	}
	word := j.data[start:j.pos]
	if !json.Valid([]byte(word)) {
		j.pos = start
		j.fail("a value should be here")
	}
	return &node{at: at, text: word, plain: true}
}

func (j *jsonReader) object(at place, depth int) *node {
	out := &node{at: at, kind: mapping}
	j.pos++
	if j.space(); j.pos < len(j.data) && j.data[j.pos] == '}' {
		j.pos++
		return out
	}
	for {
		j.next(`"`)
		j.pos--
		p := pair{at: j.at()}
		p.key = j.text()
		j.next(":")
		p.value = j.value(depth + 1)
		out.add(j.refs, p)
		if j.next(",}") == '}' {
			return out
		}
	}
}

func (j *jsonReader) array(at place, depth int) *node {
	out := &node{at: at, kind: list}
	j.pos++
	if j.space(); j.pos < len(j.data) && j.data[j.pos] == ']' {
		j.pos++
		return out
	}
	for {
		out.items = append(out.items, j.value(depth+1))
		if j.next(",]") == ']' {
			return out
		}
	}
}

// text reads a string from its opening quote to past its closing one.
func (j *jsonReader) text() string {
	start := j.pos
	for i := j.pos + 1; i < len(j.data); i++ {
		switch j.data[i] {
		case '\\':
			i++
		case '\n':
			j.fail("the line ends inside a string")
		case '"':
			var s string
			if err := json.Unmarshal([]byte(j.data[start:i+1]), &s); err != nil {
				j.fail("a string that is not valid")
			}
			j.pos = i + 1
			return s
		}
	}
	j.fail("the end inside a string")
	return ""
}
