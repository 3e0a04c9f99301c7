package admin

import (
	"net/http"

	"github.com/weir-project/weir/engine/flow"
)

func (s *Server) healthEndpoints() []Endpoint {
	return []Endpoint{
		{Method: http.MethodGet, Path: "/healthz", Open: true, Raw: s.healthz},
		{Method: http.MethodGet, Path: "/readyz", Open: true, Raw: s.readyz},
	}
}

// healthz says whether the engine can go on. After a failed write or sync it cannot
// (I4): whoever watches may restart it. Why, only /status says.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if s.cfg.Engine.Status().Failure != nil {
		plain(w, http.StatusServiceUnavailable, "failing: see /status")
		return
	}
	plain(w, http.StatusOK, "ok")
}

// readyz says whether the engine takes events: not before its sources are open, not
// when it stops, not after a failure.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	switch st := s.cfg.Engine.Status(); {
	case st.Failure != nil:
		plain(w, http.StatusServiceUnavailable, "failing: see /status")
	case st.Phase != flow.Running:
		plain(w, http.StatusServiceUnavailable, st.Phase.String())
	default:
		plain(w, http.StatusOK, "ready")
	}
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // a client that has gone does not hear of it
}
