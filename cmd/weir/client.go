package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/admin"
	"github.com/weir-project/weir/engine/config"
)

// Limits of what a command takes from a running instance.
const (
	maxAnswer  = 256 << 20        // bytes of an answer, or of one line of a stream
	clientTime = 60 * time.Second // of a request that is no stream
)

// tokenVariable is where commands find the token; a flag could be read by others.
const tokenVariable = "WEIR_TOKEN"

// instanceFlags say where the running instance is.
type instanceFlags struct{ url, data, ca string }

// instanceFlags adds the flags of commands that talk to a running instance.
func (p *program) instanceFlags(cmd *cobra.Command) *instanceFlags {
	f := &instanceFlags{}
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.data, "data", "", "the data folder of the running instance (default: the configuration's)")
	flags.StringVar(&f.url, "url", "", "the API over TCP, such as https://weir.example.com:8080; the token comes from "+tokenVariable)
	flags.StringVar(&f.ca, "ca", "", "a PEM file with the authority of the API's certificate, where the system does not know it")
	return f
}

// client talks to a running instance.
type client struct {
	http  *http.Client
	base  string
	token string
	start string // how to start an instance, for the error where none runs
}

// connect finds the running instance by --url, --data or the configuration. It
// opens no connection yet. The caller closes the client.
func (p *program) connect(cmd *cobra.Command, f *instanceFlags) (*client, error) {
	if f.url != "" {
		return p.connectURL(f)
	}
	data, start := f.data, "weir run"
	if data == "" {
		plan, err := p.load(cmd)
		if err != nil {
			return nil, err
		}
		data, start = plan.Node.Data, "weir run"+p.configFlag(cmd.Flags().Changed("config"))
	}
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return admin.DialSocket(ctx, data)
	}}
	return &client{http: &http.Client{Transport: t}, base: "http://weir", start: start}, nil
}

func (p *program) connectURL(f *instanceFlags) (*client, error) {
	u, err := url.Parse(f.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return nil, usageError{fmt.Errorf("--url %q is not an address such as https://weir.example.com:8080", f.url)}
	}
	token, _ := p.env(tokenVariable)
	if token == "" {
		return nil, usageError{fmt.Errorf("--url needs the token in %s", tokenVariable)}
	}
	t := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if f.ca != "" {
		text, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, usageError{fmt.Errorf("--ca: %w", err)}
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, usageError{fmt.Errorf("--ca %s: no certificate in PEM form", f.ca)}
		}
	}
	follow := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{http: &http.Client{Transport: t, CheckRedirect: follow}, base: strings.TrimSuffix(f.url, "/"), token: token}, nil
}

// Close ends the client's connections.
func (c *client) Close() { c.http.CloseIdleConnections() }

// get asks for a path and decodes the answer into out.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.ask(ctx, http.MethodGet, path, query, nil, out)
}

// post sends in as JSON, nothing where it is nil, and decodes the answer into out.
func (c *client) post(ctx context.Context, path string, query url.Values, in, out any) error {
	body := []byte{}
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return c.ask(ctx, http.MethodPost, path, query, body, out)
}

func (c *client) ask(ctx context.Context, method, path string, query url.Values, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, clientTime)
	defer cancel()
	resp, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: read the answer: %w", path, err)
	case len(text) > maxAnswer:
		return fmt.Errorf("%s: the answer is longer than %d bytes", path, maxAnswer)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s: the answer cannot be read: %w", path, err)
	}
	return nil
}

// lines reads a stream and calls each with a line of JSON, until the stream or ctx
// ends or each fails.
func (c *client) lines(ctx context.Context, path string, query url.Values, each func(line []byte) error) error {
	resp, err := c.send(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), maxAnswer)
	for lines.Scan() {
		if err := failureOf(lines.Bytes()); err != nil {
			return err
		}
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: the stream broke off: %w", path, err)
	}
	return nil
}

// send returns an answer with status 200; every other one is an error.
func (c *client) send(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	at := c.base + path
	if len(query) > 0 {
		at += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", admin.JSON)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if errors.Is(err, admin.ErrNotRunning) {
		return nil, fmt.Errorf("%w; %q starts one", cleanURL(err), c.start)
	}
	if err != nil {
		return nil, cleanURL(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", path, resp.Status, err)
	}
	if err = failureOf(text); err == nil {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	switch resp.StatusCode {
	case http.StatusBadRequest:
		return nil, wrongInput{err}
	case http.StatusUnauthorized:
		return nil, fmt.Errorf("%s: %w (see %s)", c.base, err, tokenVariable)
	}
	return nil, err
}

// cleanURL leaves out what net/http adds: the URL of the socket means nothing.
func cleanURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// failureOf is the error that an answer holds, nil where it holds none. Mistakes of a
// configuration come back as such, so that they exit and print as everywhere.
func failureOf(text []byte) error {
	var f struct{ Errors []config.Mistake }
	if !bytes.Contains(text, []byte(`"errors"`)) || json.Unmarshal(text, &f) != nil || len(f.Errors) == 0 {
		return nil
	}
	if m := f.Errors[0]; len(f.Errors) == 1 && m.File == "" {
		if m.Hint != "" {
			return fmt.Errorf("%s (%s)", m.Error, m.Hint)
		}
		return errors.New(m.Error)
	}
	return &config.Errors{Mistakes: f.Errors}
}
