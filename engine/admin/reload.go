package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
)

// reloader is an engine whose configuration changes while it runs.
type reloader interface {
	Reload(ctx context.Context) (engine.Change, error)
	Rollback(ctx context.Context) (engine.Change, error)
}

// reloadEndpoints put another configuration to work: POST /v1/reload the one that the
// file holds now, POST /v1/rollback the one before. The answer is an engine.Change.
func (s *Server) reloadEndpoints() []Endpoint {
	e, ok := s.cfg.Engine.(reloader)
	if !ok {
		return nil
	}
	return []Endpoint{
		{Method: http.MethodPost, Path: "/v1/reload", Answer: s.changing("reload", e.Reload)},
		{Method: http.MethodPost, Path: "/v1/rollback", Answer: s.changing("rollback", e.Rollback)},
	}
}

func (s *Server) changing(what string, do func(context.Context) (engine.Change, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		c, err := do(r.Context())
		if err == nil {
			s.cfg.Log.Info(what, "generation", c.Generation, "unchanged", c.Unchanged, "took", c.Took, "draining", c.Draining)
			return c, nil
		}
		s.cfg.Log.Error(what+" failed; the running generation goes on", "error", err)
		var mistakes *config.Errors
		switch {
		case errors.As(err, &mistakes):
			return nil, err
		case errors.Is(err, engine.ErrBusy):
			return nil, Refuse(http.StatusServiceUnavailable, "%w", err)
		}
		return nil, Refuse(http.StatusConflict, "%w", err)
	}
}
