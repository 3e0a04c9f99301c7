package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/weir-project/weir/engine/config"
)

// JSON is the content type of bodies and answers.
const JSON = "application/json"

// Endpoint is one method of one path. One of Answer, Stream and Raw is set. They run
// on the connection's goroutine, many at once; the request's context ends when the
// client has gone or the server is closed.
type Endpoint struct {
	Method string   // GET or POST
	Path   string   // such as /v1/journal, without variable parts
	Query  []string // the parameters that it knows; each may stand once
	Body   string   // content type of what it reads, "" = it reads none and a body is refused
	Max    int64    // bytes of the body, default 1 MiB
	Open   bool     // needs no token: health and metrics

	// Answer returns what is sent as JSON. See Refuse for errors.
	Answer func(r *http.Request) (any, error)
	// Stream sends values one by one, a line each, and returns when there are no more
	// or send fails. An error before the first value becomes the answer, a later one
	// the last line.
	Stream func(r *http.Request, send func(any) error) error
	// Raw writes the answer itself.
	Raw http.HandlerFunc
}

// Validate says what is missing or contradicts itself.
func (e *Endpoint) Validate() error {
	kinds := 0
	for _, set := range []bool{e.Answer != nil, e.Stream != nil, e.Raw != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case e.Method != http.MethodGet && e.Method != http.MethodPost:
		return fmt.Errorf("endpoint %s %s: the method must be GET or POST", e.Method, e.Path)
	case !plainPath(e.Path):
		return fmt.Errorf("endpoint %s %s: not a plain path such as /v1/name", e.Method, e.Path)
	case kinds != 1:
		return fmt.Errorf("endpoint %s %s: one of Answer, Stream and Raw must be set", e.Method, e.Path)
	case e.Method == http.MethodGet && e.Body != "":
		return fmt.Errorf("endpoint %s %s: GET takes no body", e.Method, e.Path)
	}
	return nil
}

// Refusal is an error with the HTTP status that fits it.
type Refusal struct {
	Status int
	Err    error
	Hint   string // what would be right
}

// Error says why.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Refuse makes an error that is answered with a status, such as
// Refuse(404, "no event %q", id). Other errors are answered with 500, mistakes of a
// configuration with 422.
func Refuse(status int, format string, args ...any) error {
	return &Refusal{Status: status, Err: fmt.Errorf(format, args...)}
}

// failure is the body of an answer that is none.
type failure struct {
	Errors []config.Mistake `json:"errors"`
}

// statusOf sorts an error.
func statusOf(err error) (int, failure) {
	var mistakes *config.Errors
	var refusal *Refusal
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &refusal):
		return refusal.Status, failure{[]config.Mistake{{Error: refusal.Error(), Hint: refusal.Hint}}}
	case errors.As(err, &mistakes):
		return http.StatusUnprocessableEntity, failure{mistakes.Mistakes}
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, failure{[]config.Mistake{{Error: fmt.Sprintf("the body is longer than %d bytes", tooLarge.Limit)}}}
	}
	return http.StatusInternalServerError, failure{[]config.Mistake{{Error: err.Error()}}}
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, err error) {
	status, body := statusOf(err)
	s.write(w, status, body)
}

// write sends a JSON answer, without secrets of the configuration. What cannot be encoded is a mistake of the endpoint and
// is said in the answer, which has not begun by then.
func (s *Server) write(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"errors":[{"error":"the answer cannot be encoded"}]}`)
	}
	b = s.cfg.Engine.Plan().Redact(b)
	w.Header().Set("Content-Type", JSON)
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that has gone does not hear of it
}

// Decode reads a JSON body into v: one value, of known members only. An empty body
// leaves v as it is.
func Decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	switch err := d.Decode(v); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return badBody(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Refuse(http.StatusBadRequest, "body: more than one JSON value")
	}
	return nil
}

func badBody(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return Refuse(http.StatusBadRequest, "body: %w", err)
}

// serve runs an endpoint for a request that the guard has let through.
func (s *Server) serve(e *Endpoint, w http.ResponseWriter, r *http.Request) {
	switch {
	case e.Raw != nil:
		e.Raw(w, r)
	case e.Stream != nil:
		s.stream(e, w, r)
	default:
		v, err := e.Answer(r)
		if err != nil {
			s.fail(w, err)
			return
		}
		s.write(w, http.StatusOK, v)
	}
}

// checkQuery refuses parameters that an endpoint does not know, or that stand twice.
func checkQuery(e *Endpoint, r *http.Request) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	for name, values := range query {
		switch {
		case !slices.Contains(e.Query, name):
			known := "it takes none"
			if len(e.Query) > 0 {
				known = "it takes " + strings.Join(e.Query, ", ")
			}
			return &Refusal{Status: http.StatusBadRequest, Err: fmt.Errorf("unknown parameter %q", name), Hint: known}
		case len(values) > 1:
			return Refuse(http.StatusBadRequest, "parameter %q stands %d times", name, len(values))
		}
	}
	return nil
}

// checkBody refuses a body that an endpoint does not read. A content type of its own
// is asked for also where the body is empty: a page of another site can send the types
// of forms without asking, but not this one.
func checkBody(e *Endpoint, r *http.Request) error {
	if e.Body == "" {
		if r.ContentLength != 0 {
			return Refuse(http.StatusBadRequest, "%s %s takes no body", e.Method, e.Path)
		}
		if e.Method == http.MethodGet {
			return nil
		}
	}
	want := e.Body
	if want == "" {
		want = JSON
	}
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || got != want || len(r.Header.Values("Content-Type")) != 1 {
		return &Refusal{Status: http.StatusUnsupportedMediaType, Err: fmt.Errorf("Content-Type is %q", r.Header.Get("Content-Type")), Hint: "send Content-Type: " + want}
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return Refuse(http.StatusUnsupportedMediaType, "Content-Encoding %q is not taken", encoding)
	}
	if limit := e.max(); r.ContentLength > limit {
		return Refuse(http.StatusRequestEntityTooLarge, "the body has %d bytes, at most %d are taken", r.ContentLength, limit)
	}
	return nil
}

func (e *Endpoint) max() int64 {
	if e.Max > 0 {
		return e.Max
	}
	return maxBody
}
