package http

import (
	"errors"
	"fmt"
	nethttp "net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/weir-project/weir/transports"
)

// destination is where a request goes, and the further headers that it has. Entries
// with the same one may share a request.
type destination struct {
	url     string
	headers nethttp.Header
	same    string // differs where url or headers do
	open    bool   // the URL came from an event
}

// errNowhere is the cause of a Poison that is about a URL that came from an event.
var errNowhere = errors.New("the receiver has no such address")

// destination is where an entry goes. Errors say why its event may not decide so; they
// never quote a header, which may hold a secret.
func (c *sinkConfig) destination(e *transports.Entry) (*destination, error) {
	if !c.openURL && len(c.openHeaders) == 0 {
		return &destination{url: c.url.String(), headers: c.headers}, nil
	}
	if len(e.Rendered) != 1+len(c.lines) {
		return nil, errors.New("url, headers: the event came without what their placeholders stand for")
	}
	d := &destination{url: c.url.String(), headers: c.headers, open: c.openURL, same: strings.Join(e.Rendered, "\n")}
	if c.openURL {
		d.url = e.Rendered[0]
		if err := c.checkURL(d.url); err != nil {
			return nil, fmt.Errorf("url: %w", err)
		}
	}
	if len(c.openHeaders) == 0 {
		return d, nil
	}
	d.headers = nethttp.Header{}
	for i, line := range e.Rendered[1:] {
		name, value, err := c.headerOf(i, line)
		if err != nil {
			return nil, err
		}
		d.headers.Add(name, value)
	}
	return d, nil
}

// headerOf is a further header as an event has it.
func (c *sinkConfig) headerOf(i int, line string) (name, value string, err error) {
	name, _, _ = strings.Cut(c.lines[i], ":")
	name = nethttp.CanonicalHeaderKey(strings.TrimSpace(name))
	_, value, _ = strings.Cut(line, ":")
	// Not strings.TrimSpace: it would take away a line's end that a value brought.
	value = strings.Trim(value, " \t")
	if !isFieldValue(value) {
		return "", "", fmt.Errorf("headers: %s: the event brings a control character, such as the end of a line, which no header may hold", name)
	}
	return name, value, nil
}

// checkURL refuses a URL for which its template was not meant: values must have changed
// nothing of its structure.
func (c *sinkConfig) checkURL(text string) error {
	for _, mark := range []string{"/", "?", "&", "=", "#"} {
		if strings.Count(text, mark) != strings.Count(c.shape, mark) {
			return fmt.Errorf("a value brings a %s that is not percent-encoded", mark)
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("what the event makes of it is no URL")
	}
	if u.Scheme != c.url.Scheme || u.Host != c.url.Host || u.User != nil {
		return errors.New("an event may not change the scheme, host or port")
	}
	path, query, _ := strings.Cut(text[strings.Index(text, "://")+3:], "?")
	meant, _, _ := strings.Cut(c.shape[strings.Index(c.shape, "://")+3:], "?")
	segments, shapes := strings.Split(path, "/")[1:], strings.Split(meant, "/")[1:]
	if len(segments) != len(shapes) {
		return errors.New("an event may not change the number of the path's segments")
	}
	for i, segment := range segments {
		if segment == "" && shapes[i] != "" {
			return fmt.Errorf("segment %d of the path is empty for this event", i+1)
		}
		if err := checkSegment(segment); err != nil {
			return fmt.Errorf("segment %d of the path %w", i+1, err)
		}
	}
	plain, err := url.QueryUnescape(query)
	if err != nil || hasControl(plain) {
		return errors.New("the query has a control character, or a percent sign that begins no escape")
	}
	return nil
}

// checkSegment refuses what would lead elsewhere in the path: also to a receiver that
// undoes the escapes before it looks at the segments.
func checkSegment(segment string) error {
	plain, err := url.PathUnescape(segment)
	if err != nil || hasControl(plain) {
		return errors.New("has a control character, or a percent sign that begins no escape")
	}
	if plain == "." {
		return errors.New("is . and would be lost")
	}
	parts := strings.FieldsFunc(plain, func(r rune) bool { return r == '/' || r == '\\' })
	if slices.Contains(parts, "..") {
		return errors.New("holds .. and would lead out of the path")
	}
	return nil
}

func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

// shapeOf is a text with an x for each placeholder; open says whether it has any.
func shapeOf(text string) (shape string, open bool) {
	var b strings.Builder
	for text != "" {
		before, after, found := strings.Cut(text, "<")
		b.WriteString(before)
		if !found {
			break
		}
		if rest, doubled := strings.CutPrefix(after, "<"); doubled {
			b.WriteByte('<')
			text = rest
			continue
		}
		_, rest, closed := strings.Cut(after, ">")
		if !closed {
			b.WriteString("<" + after)
			break
		}
		b.WriteByte('x')
		text, open = rest, true
	}
	return b.String(), open
}

// readURL reads the URL with its placeholders.
func (c *sinkConfig) readURL(text string) error {
	var err error
	c.shape, c.openURL = shapeOf(text)
	if inAuthority(text) {
		return errors.New("url: a placeholder may stand in the path and in the query, never in the scheme, host or port: events do not choose whom Weir calls")
	}
	if c.url, err = url.Parse(c.shape); err != nil || c.url.Host == "" || c.url.Scheme != "http" && c.url.Scheme != "https" {
		return errors.New("url: must be http:// or https:// with a host")
	}
	var errs []error
	if c.url.User != nil {
		errs = append(errs, errors.New("url: must not hold credentials; use token or headers"))
	}
	if c.url.Fragment != "" {
		errs = append(errs, errors.New("url: must not have a fragment"))
	}
	if c.openURL && len(errs) == 0 {
		if strings.Contains(c.shape, "<") {
			errs = append(errs, errors.New("url: a < that is meant as one is %3C"))
		} else if err := c.checkURL(c.shape); err != nil {
			errs = append(errs, fmt.Errorf("url: %w", err))
		}
	}
	return errors.Join(errs...)
}

// inAuthority says whether a placeholder stands before the path and the query.
func inAuthority(text string) bool {
	at := strings.IndexByte(text, '<')
	if at < 0 {
		return false
	}
	_, after, ok := strings.Cut(text[:at], "://")
	return !ok || !strings.ContainsAny(after, "/?#")
}
