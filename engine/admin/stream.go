package admin

import (
	"encoding/json"
	"net/http"
	"time"
)

// Lines is the content type of streams: one JSON value a line.
const Lines = "application/x-ndjson"

// stream runs an endpoint that answers in lines. Every value goes out at once and
// has writeTime to arrive, so that a client that reads nothing holds no place.
func (s *Server) stream(e *Endpoint, w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "1")
		s.fail(w, Refuse(http.StatusServiceUnavailable, "%d streams are open, more are not possible", maxStreams))
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the request was read; its time must not end the stream
	begun := false
	send := func(v any) error {
		line, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := r.Context().Err(); err != nil {
			return err
		}
		if !begun {
			begun = true
			w.Header().Set("Content-Type", Lines)
		}
		_ = control.SetWriteDeadline(time.Now().Add(writeTime)) // a server in front may have its own
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		return control.Flush()
	}
	err := e.Stream(r, send)
	switch {
	case err == nil && !begun:
		w.Header().Set("Content-Type", Lines)
		w.WriteHeader(http.StatusOK)
	case err == nil || r.Context().Err() != nil:
	case !begun:
		s.fail(w, err)
	default:
		_, body := statusOf(err)
		for i := range body.Errors {
			body.Errors[i].Error = string(s.cfg.Engine.Plan().Redact([]byte(body.Errors[i].Error)))
		}
		_ = send(body) // who reads the stream hears why it ends; who has gone does not
	}
}
