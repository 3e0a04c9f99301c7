package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/journal"
)

// maxExplain bounds the bytes of what is to be explained; base64 makes them a third longer.
const maxExplain = 48 << 20

// journaled is an engine that says what became of events.
type journaled interface {
	Journal() *journal.Journal
	Explain(ctx context.Context, q engine.Query) (engine.Explanation, error)
	Tap(q engine.TapQuery) (*flow.Tap, error)
}

// Explained is the answer of POST /v1/explain, whose body is an engine.Query.
type Explained struct {
	Found bool `json:"found"` // false: the journal does not know the id, and there were no bytes
	engine.Explanation
}

// journalEndpoints say where events went. GET /v1/journal streams journal.Line, newest
// first; its parameters are those of journal.Query, with times in RFC 3339, outcomes
// separated by commas, at most 50 lines unless limit says otherwise (0 = all), and
// with follow=true what is committed from then on. GET /v1/tap streams flow.Tapped, the
// events that are settled from then on.
func (s *Server) journalEndpoints() []Endpoint {
	e, ok := s.cfg.Engine.(journaled)
	if !ok {
		return nil
	}
	return []Endpoint{
		{
			Method: http.MethodGet, Path: "/v1/journal",
			Query: []string{"id", "source", "key", "route", "sink", "outcome", "reason", "since", "until", "limit", "oldest", "follow"},
			Stream: func(r *http.Request, send func(any) error) error {
				return streamJournal(r, e.Journal(), send)
			},
		},
		{
			Method: http.MethodPost, Path: "/v1/explain", Body: JSON, Max: maxExplain,
			Answer: func(r *http.Request) (any, error) { return explain(r, e) },
		},
		{
			Method: http.MethodGet, Path: "/v1/tap", Query: []string{"route", "source", "sink", "sample"},
			Stream: func(r *http.Request, send func(any) error) error { return streamTap(r, e, send) },
		},
	}
}

// defaultLines is how many lines of the journal are given unless limit says otherwise.
const defaultLines = 50

func streamJournal(r *http.Request, j *journal.Journal, send func(any) error) error {
	values := r.URL.Query()
	q, err := journalQuery(values)
	if err != nil {
		return &Refusal{Status: http.StatusBadRequest, Err: err}
	}
	give := func(l *journal.Line) error { return send(l) }
	if values.Get("follow") == "true" {
		return j.Follow(r.Context(), q, give)
	}
	_, err = j.Find(r.Context(), q, give)
	return err
}

func journalQuery(values url.Values) (journal.Query, error) {
	q := journal.Query{
		ID: values.Get("id"), Source: values.Get("source"), Key: values.Get("key"), Route: values.Get("route"),
		Sink: values.Get("sink"), Reason: values.Get("reason"), Limit: defaultLines,
	}
	var errs []error
	flag := func(name string) bool {
		switch v := values.Get(name); v {
		case "", "false":
			return false
		case "true":
			return true
		default:
			errs = append(errs, fmt.Errorf("%s: %q is neither true nor false", name, v))
			return false
		}
	}
	q.Oldest = flag("oldest")
	if flag("follow") {
		q.Limit = 0
	}
	for name, at := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if v := values.Get(name); v != "" {
			var err error
			if *at, err = time.Parse(time.RFC3339Nano, v); err != nil {
				errs = append(errs, fmt.Errorf("%s: %q is no time such as 2006-01-02T15:04:05Z", name, v))
			}
		}
	}
	if v := values.Get("limit"); v != "" {
		var err error
		if q.Limit, err = strconv.Atoi(v); err != nil {
			errs = append(errs, fmt.Errorf("limit: %q is no number", v))
		}
	}
	if v := values.Get("outcome"); v != "" {
		for name := range strings.SplitSeq(v, ",") {
			o, err := journal.ParseOutcome(name)
			if err != nil {
				errs = append(errs, fmt.Errorf("outcome: %w", err))
				continue
			}
			q.Outcomes = append(q.Outcomes, o)
		}
	}
	if len(errs) == 0 {
		errs = append(errs, q.Validate())
	}
	return q, errors.Join(errs...)
}

func streamTap(r *http.Request, e journaled, send func(any) error) error {
	values := r.URL.Query()
	q := engine.TapQuery{Route: values.Get("route"), Source: values.Get("source"), Sink: values.Get("sink")}
	if v := values.Get("sample"); v != "" {
		var err error
		if q.Sample, err = strconv.Atoi(v); err != nil {
			return Refuse(http.StatusBadRequest, "sample: %q is no number", v)
		}
	}
	tap, err := e.Tap(q)
	switch {
	case errors.Is(err, flow.ErrTaps):
		return &Refusal{Status: http.StatusServiceUnavailable, Err: err}
	case err != nil:
		return &Refusal{Status: http.StatusBadRequest, Err: err}
	}
	defer tap.Close()
	for {
		event, err := tap.Next(r.Context())
		if errors.Is(err, flow.ErrEnded) || r.Context().Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(event); err != nil {
			return err
		}
	}
}

func explain(r *http.Request, e journaled) (any, error) {
	var q engine.Query
	if err := Decode(r, &q); err != nil {
		return nil, err
	}
	x, err := e.Explain(r.Context(), q)
	var source *engine.SourceError
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return Explained{Explanation: x}, nil
	case errors.As(err, &source), err != nil && q.Validate() != nil:
		return nil, &Refusal{Status: http.StatusBadRequest, Err: err}
	case err != nil:
		return nil, err
	}
	return Explained{Found: true, Explanation: x}, nil
}
