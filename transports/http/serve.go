package http

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/weir-project/weir/transports"
)

// serve takes one request through its stages: who sends it, how much, what is it;
// then it waits for the engine.
func (s *source) serve(w nethttp.ResponseWriter, r *nethttp.Request) {
	if p := s.admit(r); p != nil {
		if p.status == nethttp.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="weir"`)
		}
		if p.status == nethttp.StatusMethodNotAllowed {
			w.Header().Set("Allow", nethttp.MethodPost)
		}
		refuse(w, p)
		return
	}
	f, p := s.framing(r.Header)
	if p != nil {
		refuse(w, p)
		return
	}
	bytes, p := s.size(r)
	if p != nil {
		refuse(w, p)
		return
	}
	if !s.reserve(bytes) {
		refuse(w, &problem{status: nethttp.StatusTooManyRequests, text: "the buffer is full", after: pauseHint})
		return
	}
	q := &request{reserved: bytes, arrived: s.env.Now(), taken: make(chan struct{}), done: make(chan struct{})}
	taken, p := s.take(w, r, f, q)
	if taken != q {
		s.unreserve(bytes)
	}
	switch {
	case p != nil:
		refuse(w, p)
	case taken == nil: // an empty batch
		accepted(w, nethttp.StatusOK, 0, nil)
	default:
		s.await(r.Context(), w, taken)
	}
}

// admit judges what the header alone says.
func (s *source) admit(r *nethttp.Request) *problem {
	if r.Method != nethttp.MethodPost {
		return &problem{status: nethttp.StatusMethodNotAllowed, text: "events come by POST"}
	}
	lines := 0
	for _, values := range r.Header {
		lines += len(values)
	}
	if lines > s.cfg.maxHeaders {
		return &problem{status: nethttp.StatusRequestHeaderFieldsTooLarge, text: fmt.Sprintf("%d header lines, at most %d are allowed", lines, s.cfg.maxHeaders)}
	}
	if !s.trusted(r.Header.Get("Authorization")) {
		return &problem{status: nethttp.StatusUnauthorized, text: "the bearer token is missing or wrong"}
	}
	if s.limit == nil {
		return nil
	}
	ticket := s.limit.Reserve()
	if pause := ticket.Delay(); pause > 0 {
		ticket.Cancel()
		return &problem{status: nethttp.StatusTooManyRequests, text: fmt.Sprintf("more than %d requests a second", s.cfg.rate), after: pause}
	}
	return nil
}

// trusted compares the token with every configured one. Digests have one length, so
// that time tells nothing of the tokens.
func (s *source) trusted(header string) bool {
	if len(s.cfg.tokens) == 0 {
		return true
	}
	scheme, token, _ := strings.Cut(header, " ")
	given := sha256.Sum256([]byte(strings.TrimSpace(token)))
	ok := 0
	for _, t := range s.cfg.tokens {
		want := sha256.Sum256([]byte(t))
		ok |= subtle.ConstantTimeCompare(given[:], want[:])
	}
	return ok == 1 && strings.EqualFold(scheme, "Bearer")
}

// size is how much of the buffer a body may need.
func (s *source) size(r *nethttp.Request) (int64, *problem) {
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip":
		return s.cfg.maxBody, nil // nobody knows before it is unpacked
	default:
		return 0, &problem{status: nethttp.StatusUnsupportedMediaType, text: fmt.Sprintf("the content encoding %q is not known", encoding), hint: "gzip or identity"}
	}
	switch {
	case r.ContentLength > s.cfg.maxBody:
		return 0, s.tooLarge()
	case r.ContentLength < 0:
		return s.cfg.maxBody, nil
	}
	return max(r.ContentLength, leastReserved), nil
}

func (s *source) tooLarge() *problem {
	return &problem{status: nethttp.StatusRequestEntityTooLarge, text: fmt.Sprintf("the body has more than %d bytes", s.cfg.maxBody)}
}

// take reads the body and puts the request into the queue. It returns the request to
// wait for, which is another one where the same is in flight already, and nil where
// there is no event in it.
func (s *source) take(w nethttp.ResponseWriter, r *nethttp.Request, f framing, q *request) (*request, *problem) {
	key, p := requestKey(r.Header)
	if p != nil {
		return nil, p
	}
	if q.key, p = s.orderKey(r.Header); p != nil {
		return nil, p
	}
	body, p := s.body(w, r)
	if p != nil {
		return nil, p
	}
	if s.cfg.check != nil {
		if err := s.cfg.check.verify(r.Header, body, s.env.Now()); err != nil {
			return nil, &problem{status: nethttp.StatusUnauthorized, text: err.Error()}
		}
	}
	if p := s.frame(f, r.Header, body, q); p != nil {
		return nil, p
	}
	if q.events == 0 {
		return nil, nil
	}
	return s.enter(r.Context(), q, key)
}

// requestKey is the request's own name, by which a repeat of it is known.
func requestKey(h nethttp.Header) (string, *problem) {
	for _, name := range [...]string{keyHeader, webhookID} {
		switch key := h.Get(name); {
		case len(key) > maxKeyBytes:
			return "", &problem{status: nethttp.StatusBadRequest, text: fmt.Sprintf("%s has %d bytes, at most %d are allowed", name, len(key), maxKeyBytes)}
		case key != "":
			return key, nil
		}
	}
	return "", nil
}

// orderKey is the key of a request's events, where a header has it.
func (s *source) orderKey(h nethttp.Header) ([]byte, *problem) {
	if s.cfg.key == "" {
		return nil, nil
	}
	text := h.Get(s.cfg.key)
	if text == "" {
		return nil, nil
	}
	key, err := url.PathUnescape(text)
	if err != nil {
		return nil, &problem{status: nethttp.StatusBadRequest, text: fmt.Sprintf("header %s: %v", s.cfg.key, err)}
	}
	return []byte(key), nil
}

// body reads the body within its limits of time and size.
func (s *source) body(w nethttp.ResponseWriter, r *nethttp.Request) ([]byte, *problem) {
	rc := nethttp.NewResponseController(w)
	timed := rc.SetReadDeadline(time.Now().Add(s.cfg.bodyTimeout)) == nil
	limited := nethttp.MaxBytesReader(w, r.Body, s.cfg.maxBody)
	var from io.Reader = limited
	if strings.EqualFold(r.Header.Get("Content-Encoding"), "gzip") {
		unpacked, err := gzip.NewReader(limited)
		if err != nil {
			return nil, s.bodyProblem(fmt.Errorf("unpack: %w", err))
		}
		from = unpacked
	}
	body, err := readAll(from, r.ContentLength, s.cfg.maxBody)
	if err != nil {
		return nil, s.bodyProblem(err)
	}
	if timed {
		_ = rc.SetReadDeadline(time.Time{}) // it would end the wait for the commit
	}
	if int64(len(body)) > s.cfg.maxBody {
		return nil, s.tooLarge()
	}
	return body, nil
}

func (s *source) bodyProblem(err error) *problem {
	var large *nethttp.MaxBytesError
	switch {
	case errors.As(err, &large):
		return s.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &problem{status: nethttp.StatusRequestTimeout, text: fmt.Sprintf("the body did not come within %v", s.cfg.bodyTimeout)}
	}
	return &problem{status: nethttp.StatusBadRequest, text: "the body cannot be read: " + err.Error()}
}

// readAll reads up to one byte more than most.
func readAll(from io.Reader, length, most int64) ([]byte, error) {
	if length < 0 || length > most {
		length = 8 << 10
	}
	body := make([]byte, 0, length+1) // one more, so that the end is seen without growing
	for int64(len(body)) <= most {
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return body, nil
}

// await answers when a request is settled (answer: accept: when the engine has it), or
// not in time.
func (s *source) await(ctx context.Context, w nethttp.ResponseWriter, q *request) {
	timer := time.NewTimer(s.cfg.commitTimeout)
	defer timer.Stop()
	var taken <-chan struct{} // a stop drains what the engine has, so nothing is lost before
	if s.cfg.accept {
		taken = q.taken
	}
	select {
	case <-taken:
		accepted(w, nethttp.StatusAccepted, q.events, nil)
		return
	case <-q.done:
	case <-timer.C:
		refuse(w, &problem{status: nethttp.StatusGatewayTimeout, text: fmt.Sprintf("not durable after %v, and still under way", s.cfg.commitTimeout), hint: "send it again: what arrives is not taken twice"})
		return
	case <-ctx.Done():
		return // the client has gone; its events are still under way
	}
	switch {
	case errors.Is(q.err, errStopped):
		refuse(w, stopping())
	case q.err != nil:
		refuse(w, &problem{status: nethttp.StatusServiceUnavailable, text: q.err.Error(), after: pauseHint})
	default:
		accepted(w, nethttp.StatusOK, q.events, q.refused)
	}
}

var _ transports.Source = (*source)(nil)
