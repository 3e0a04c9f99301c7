package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// This file decides who may ask: each check in the order in which it runs.

// entrance is how a request came in.
type entrance struct {
	socket bool     // by the unix socket: who could open it may ask
	names  []string // TCP: what clients may call this server, in lower case, without port
}

// guard lets through what an endpoint may see, and answers everything else.
func (s *Server) guard(in *entrance) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		e, err := s.admit(in, r)
		if err != nil {
			s.refused.Add(1)
			s.refuse(w, r, err)
			return
		}
		if e.Body != "" {
			r.Body = http.MaxBytesReader(w, r.Body, e.max())
		}
		s.serve(e, w, r)
	})
}

// refuse answers a request that was not admitted. Its body, which may be of any
// length, is not read: the connection ends instead.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	h := w.Header()
	status, _ := statusOf(err)
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="weir"`)
	case http.StatusMethodNotAllowed:
		h.Set("Allow", strings.Join(s.methods(r.URL.Path), ", "))
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
	if r.ContentLength != 0 {
		h.Set("Connection", "close")
	}
	s.fail(w, err)
}

// admit finds the endpoint of a request, if it may be served.
func (s *Server) admit(in *entrance, r *http.Request) (*Endpoint, error) {
	if err := s.checkHost(in, r); err != nil {
		return nil, err
	}
	if err := checkOrigin(r); err != nil {
		return nil, err
	}
	e, err := s.find(r)
	if e == nil || !e.Open {
		// Whoever has no token does not learn which paths there are.
		if err := s.checkToken(in, r); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if err := checkQuery(e, r); err != nil {
		return nil, err
	}
	return e, checkBody(e, r)
}

// checkHost refuses names that this server does not have. A page whose name an
// attacker made to point here (DNS rebinding) is of the same origin as this server to
// a browser; only the name gives it away.
func (s *Server) checkHost(in *entrance, r *http.Request) error {
	if in.socket || in.names == nil {
		return nil
	}
	host := hostOf(r.Host)
	if slices.Contains(in.names, host) {
		return nil
	}
	// The address that the connection came in at is no name that somebody can hijack.
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if at, err := netip.ParseAddrPort(local.String()); err == nil {
			if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap() == at.Addr().Unmap().WithZone("") {
				return nil
			}
		}
	}
	return &Refusal{Status: http.StatusMisdirectedRequest, Err: fmt.Errorf("this is not %q", clip(r.Host)), Hint: "names other than the address listened on stand in node.admin.hosts"}
}

// hostOf is a Host header without port and brackets, in lower case.
func hostOf(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// checkOrigin refuses what a page of another site made a browser send. Programs send
// neither of these headers.
func checkOrigin(r *http.Request) error {
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "none", "same-origin":
	default:
		return Refuse(http.StatusForbidden, "a request of another site (Sec-Fetch-Site: %s)", clip(site))
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return nil
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	if len(origins) > 1 || !strings.EqualFold(origins[0], scheme+"://"+r.Host) {
		return Refuse(http.StatusForbidden, "a request of another site (Origin: %s)", clip(origins[0]))
	}
	return nil
}

// checkToken compares the token in a time that does not depend on it.
func (s *Server) checkToken(in *entrance, r *http.Request) error {
	if in.socket {
		return nil
	}
	if s.cfg.Authorize != nil {
		if s.cfg.Authorize(r) {
			return nil
		}
		return Refuse(http.StatusUnauthorized, "not authorized")
	}
	want := s.cfg.Engine.Plan().Node.Admin.Token
	if want == "" {
		return Refuse(http.StatusForbidden, "no token is configured: only the unix socket is open to this")
	}
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return &Refusal{Status: http.StatusUnauthorized, Err: fmt.Errorf("a token is needed"), Hint: "send Authorization: Bearer TOKEN"}
	}
	scheme, got, _ := strings.Cut(headers[0], " ")
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 || !strings.EqualFold(scheme, "Bearer") || len(headers) > 1 {
		return Refuse(http.StatusUnauthorized, "the token is wrong")
	}
	return nil
}

// find matches the path byte for byte: what is escaped, doubled or relative in it
// names nothing here.
func (s *Server) find(r *http.Request) (*Endpoint, error) {
	path := r.URL.EscapedPath()
	methods, known := s.table[path]
	if !known || r.URL.RawPath != "" || r.URL.Opaque != "" {
		return nil, Refuse(http.StatusNotFound, "there is no %q", clip(path))
	}
	e, ok := methods[r.Method]
	if r.Method == http.MethodHead {
		e, ok = methods[http.MethodGet] // the server leaves the body out
		ok = ok && e.Stream == nil      // which has no end
	}
	if !ok {
		return nil, &Refusal{Status: http.StatusMethodNotAllowed, Err: fmt.Errorf("%s is not for %s", path, clip(r.Method)), Hint: "use " + strings.Join(s.methods(path), ", ")}
	}
	return e, nil
}

// methods are those that a path takes.
func (s *Server) methods(path string) []string {
	var list []string
	for m, e := range s.table[path] {
		if list = append(list, m); m == http.MethodGet && e.Stream == nil {
			list = append(list, http.MethodHead)
		}
	}
	slices.Sort(list)
	return list
}

// plainPath says whether a path is written the one way it can be.
func plainPath(path string) bool {
	if len(path) < 2 || path[0] != '/' || path[len(path)-1] == '/' || strings.Contains(path, "//") {
		return false
	}
	for _, c := range []byte(path) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '/' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func parseQuery(r *http.Request) (url.Values, error) {
	if len(r.URL.RawQuery) > maxQuery {
		return nil, Refuse(http.StatusRequestURITooLong, "the query has %d bytes, at most %d are taken", len(r.URL.RawQuery), maxQuery)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, Refuse(http.StatusBadRequest, "the query cannot be read: %w", err)
	}
	return query, nil
}

// clip shortens what a client sent, so that answers do not grow with it.
func clip(text string) string {
	const most = 100
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
