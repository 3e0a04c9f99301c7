package http

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine/event"
	"github.com/weir-project/weir/transports"
)

// errUnreachable is the cause of a Retry that is not about one entry.
var errUnreachable = errors.New("no connection")

// classOf says what the engine must do after an answer's status. It is the only place
// that does.
func classOf(status int) transports.Class {
	switch {
	case status >= 200 && status < 300:
		return transports.OK
	case status < 400:
		return transports.Fatal // a redirect, or no answer at all: the URL is wrong
	}
	switch status {
	case nethttp.StatusUnauthorized, nethttp.StatusForbidden, nethttp.StatusNotFound,
		nethttp.StatusMethodNotAllowed, nethttp.StatusProxyAuthRequired, nethttp.StatusGone:
		return transports.Fatal
	case nethttp.StatusRequestTimeout, nethttp.StatusTooEarly:
		return transports.Retry
	case nethttp.StatusTooManyRequests:
		return transports.Throttled
	case nethttp.StatusGatewayTimeout:
		return transports.Unknown // what stands behind the gateway may have it
	}
	if status >= 500 {
		return transports.Retry
	}
	return transports.Poison
}

// aboutAddress says whether a status is about the URL. Where an event decides on that,
// it costs this event alone: producers must not be able to stop a sink.
func aboutAddress(status int) bool {
	return status/100 == 3 || status == nethttp.StatusNotFound || status == nethttp.StatusMethodNotAllowed || status == nethttp.StatusGone
}

// classOfError is for requests without an answer. sent says whether anything of the
// request may have left.
func classOfError(err error, sent bool) transports.Class {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &authority), errors.As(err, &name), errors.As(err, &invalid), errors.As(err, &verification):
		return transports.Fatal
	case sent:
		return transports.Unknown
	}
	return transports.Retry
}

// send makes one request and judges it.
func (s *sink) send(ctx context.Context, client *nethttp.Client, to *destination, header nethttp.Header, body []byte, id string) transports.Result {
	if err := ctx.Err(); err != nil {
		return transports.Result{Class: transports.Retry, Err: fmt.Errorf("not sent: %w", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.timeout)
	defer cancel()
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { sent.Store(true) },
	})
	// Without GetBody the client cannot repeat a request by itself: whether to is the engine's to say.
	r, err := nethttp.NewRequestWithContext(ctx, s.cfg.method, to.url, io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		return transports.Result{Class: transports.Fatal, Err: fmt.Errorf("make a request: %w", err)}
	}
	r.ContentLength = int64(len(body))
	r.Header = header
	s.complete(header, to.headers, id, body)
	answer, err := client.Do(r)
	if err != nil {
		result := transports.Result{Class: classOfError(err, sent.Load()), Err: err}
		if result.Class == transports.Retry {
			result.Err = fmt.Errorf("%w: %w", errUnreachable, err)
		}
		return result
	}
	return s.judge(answer, to)
}

// complete sets the headers that all modes have in common.
func (s *sink) complete(h, further nethttp.Header, id string, body []byte) {
	for name, values := range further {
		h[name] = values
	}
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", "weir")
	}
	if s.cfg.token != "" {
		h.Set("Authorization", "Bearer "+s.cfg.token)
	}
	id = headerText(id)
	h.Set(s.cfg.keyHeader, id)
	if len(s.cfg.secrets) > 0 {
		sign(h, s.cfg.secrets, id, body, s.env.Now())
	}
}

// judge reads an answer, of which no more than maxAnswer bytes.
func (s *sink) judge(answer *nethttp.Response, to *destination) transports.Result {
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)) // its status says all that matters
	_ = answer.Body.Close()                                       // nothing is lost with it
	result := transports.Result{Class: classOf(answer.StatusCode)}
	if result.Class == transports.OK {
		return result
	}
	result.Err = fmt.Errorf("%s %s: %s%s", s.cfg.method, to.url, answer.Status, excerpt(text))
	if at := answer.Header.Get("Location"); answer.StatusCode/100 == 3 && at != "" {
		result.Err = fmt.Errorf("%w; redirects are not followed, it leads to %q", result.Err, at)
	}
	if to.open && aboutAddress(answer.StatusCode) {
		return transports.Result{Class: transports.Poison, Err: fmt.Errorf("%w: %w", errNowhere, result.Err)}
	}
	pause, ok := retryAfter(answer.Header.Get("Retry-After"), s.env.Now())
	switch {
	case result.Class == transports.Throttled && !ok:
		result.After = pauseHint
	case result.Class == transports.Throttled:
		result.After = pause
	case answer.StatusCode == nethttp.StatusServiceUnavailable && ok:
		result.Class, result.After = transports.Throttled, pause
	}
	return result
}

func excerpt(text []byte) string {
	text = bytes.TrimSpace(text[:min(len(text), maxErrorText)])
	if len(text) == 0 {
		return ""
	}
	return ": " + strings.ToValidUTF8(string(text), "?")
}

// retryAfter reads seconds or a date.
func retryAfter(text string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil && n >= 0 {
		return min(time.Duration(n)*time.Second, maxPause), true
	}
	at, err := nethttp.ParseTime(text)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), maxPause), true
}

// render makes the headers and body of one entry.
func (s *sink) render(e *transports.Entry) (nethttp.Header, []byte, error) {
	h := nethttp.Header{}
	switch s.cfg.mode {
	case modeStructured:
		h.Set("Content-Type", mediaEvent)
		return h, e.Data, nil
	case modeBinary:
		return s.renderBinary(h, e)
	}
	h.Set("Content-Type", s.cfg.contentType)
	return h, e.Data, nil
}

func (s *sink) renderBinary(h nethttp.Header, e *transports.Entry) (nethttp.Header, []byte, error) {
	decoded, err := event.Decode(e.Data, event.CodecOf(event.CloudEvents), event.Missing{}, event.Limits{Event: len(e.Data)})
	if err != nil {
		return nil, nil, fmt.Errorf("binary mode: %w", err)
	}
	headers, data, err := event.EncodeBinary(&decoded, event.Stamps{})
	if err != nil {
		return nil, nil, fmt.Errorf("binary mode: %w", err)
	}
	for _, a := range headers {
		h.Set(a.Name, a.Value)
	}
	return h, data, nil
}

// renderBatch makes one array of the entries, which are CloudEvents.
func (*sink) renderBatch(batch []transports.Entry) (nethttp.Header, []byte) {
	body := []byte{'['}
	for i := range batch {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, batch[i].Data...)
	}
	h := nethttp.Header{}
	h.Set("Content-Type", mediaBatch)
	return h, append(body, ']')
}

// batchID is the same for the same entries in the same order.
func batchID(batch []transports.Entry) string {
	if len(batch) == 1 {
		return batch[0].ID
	}
	h := sha256.New()
	for i := range batch {
		fmt.Fprintf(h, "%d:%s", len(batch[i].ID), batch[i].ID)
	}
	return "batch-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// headerText percent-encodes what a header cannot hold, as CloudEvents does.
func headerText(s string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }
	clean := true
	for i := 0; i < len(s); i++ {
		clean = clean && plain(s[i])
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if plain(s[i]) {
			b.WriteByte(s[i])
			continue
		}
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}
