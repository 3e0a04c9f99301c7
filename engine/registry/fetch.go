package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxAnswerText is how many bytes of a registry's error are quoted.
const maxAnswerText = 200

// Client asks registries. It is for one goroutine.
type Client struct {
	http *http.Client
	url  string // that tag is of
	tag  string // of the last list that Accept was told of
	seen string // tag of the list that came last
}

// NewClient returns a client that keeps at most one connection.
func NewClient() *Client {
	return &Client{http: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute},
		// The address is the configuration's, and no one else's, to choose.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Request says what to ask.
type Request struct {
	URL     string
	Token   string        // bearer token, "" = none
	Timeout time.Duration // for all of the answer
	Max     int64         // bytes of the answer
}

// Fetch returns the list, or nil where it is the one that was accepted last.
func (c *Client) Fetch(ctx context.Context, r Request) ([]Service, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the registry: %w", err)
	}
	q.Header.Set("Accept", "application/json")
	q.Header.Set("User-Agent", "weir")
	if r.Token != "" {
		q.Header.Set("Authorization", "Bearer "+r.Token)
	}
	if c.url == r.URL && c.tag != "" {
		q.Header.Set("If-None-Match", c.tag)
	}
	answer, err := c.http.Do(q)
	if err != nil {
		return nil, fmt.Errorf("ask the registry: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotModified && c.url == r.URL && c.tag != "" {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, r.Max+1))
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the registry answered %s: %s", answer.Status, strings.ToValidUTF8(string(bytes.TrimSpace(body[:min(len(body), maxAnswerText)])), "?"))
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the registry's answer: %w", err)
	case int64(len(body)) > r.Max:
		return nil, fmt.Errorf("the registry's answer has more than %d bytes", r.Max)
	}
	list, err := Parse(body)
	if err != nil {
		return nil, fmt.Errorf("the registry's answer is refused: %w", err)
	}
	if list == nil {
		return nil, errors.New("the registry's answer is refused: no list")
	}
	c.url, c.tag, c.seen = r.URL, "", answer.Header.Get("ETag")
	return list, nil
}

// Accept says that the list that came last is at work: it need not come again.
func (c *Client) Accept() { c.tag = c.seen }

// Close gives the connection up.
func (c *Client) Close() { c.http.CloseIdleConnections() }
