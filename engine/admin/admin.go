package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/trace"
)

// Limits of what clients may take of the process.
const (
	maxBody    = 1 << 20          // bytes of a body, where an endpoint has no limit of its own
	maxQuery   = 8 << 10          // bytes of a query
	maxHeaders = 16 << 10         // bytes of all headers
	maxClients = 64               // connections by the socket, and as many by TCP
	maxStreams = 16               // streams at once
	headerTime = 5 * time.Second  // from the connection's or request's beginning to the end of the headers
	readTime   = 30 * time.Second // likewise to the end of the body
	writeTime  = 60 * time.Second // of an answer, and of one value of a stream
	idleTime   = 30 * time.Second // between two requests of a connection
)

// Engine is what this package needs of a running engine; *engine.Engine is one. An
// endpoint that needs more asks whether the engine has it.
type Engine interface {
	Status() engine.Status
	Plan() *config.Plan
}

// Config is what a Server is made of. Engine is required.
type Config struct {
	Engine  Engine
	Version string       // of the program, for /status and the metrics
	Log     *slog.Logger // nil discards
	// Traces says what the tracer of the engine has done; nil = there is none.
	Traces func() trace.Stats
	// Endpoints are the program's own, beside those of this package.
	Endpoints []Endpoint
	// Authorize says whether a request that did not come by the socket may be served;
	// nil = it must show the configured token, and without one nothing but health and
	// metrics is served. For programs that mount Handler behind their own log-in.
	Authorize func(r *http.Request) bool
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Validate says what is missing or contradicts itself.
func (c *Config) Validate() error {
	var errs []error
	if c.Engine == nil {
		errs = append(errs, errors.New("admin: Config.Engine is not set"))
	}
	for i := range c.Endpoints {
		errs = append(errs, c.Endpoints[i].Validate())
	}
	return errors.Join(errs...)
}

// Server answers for one engine. Its methods may be called from any goroutine.
type Server struct {
	cfg     Config
	table   map[string]map[string]*Endpoint // by path, then method
	started time.Time
	refused atomic.Uint64 // requests that were not admitted
	streams chan struct{} // holds one element for each stream under way

	life context.Context // ends with Close: streams end then
	end  context.CancelFunc

	mu    sync.Mutex // guards doors
	doors []*door
	work  sync.WaitGroup
}

// New returns a server that does not listen.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, started: cfg.Now(), streams: make(chan struct{}, maxStreams), table: map[string]map[string]*Endpoint{}}
	s.life, s.end = context.WithCancel(context.Background())
	for _, e := range append(s.endpoints(), cfg.Endpoints...) {
		if err := e.Validate(); err != nil {
			return nil, err
		}
		if s.table[e.Path] == nil {
			s.table[e.Path] = map[string]*Endpoint{}
		}
		if s.table[e.Path][e.Method] != nil {
			return nil, fmt.Errorf("endpoint %s %s: there are two", e.Method, e.Path)
		}
		s.table[e.Path][e.Method] = &e
	}
	return s, nil
}

// endpoints are those of this package. An endpoint whose power the engine lacks is
// left out.
func (s *Server) endpoints() []Endpoint {
	var list []Endpoint
	list = append(list, s.healthEndpoints()...)
	list = append(list, s.statusEndpoints()...)
	list = append(list, s.reloadEndpoints()...)
	list = append(list, s.letterEndpoints()...)
	list = append(list, s.metricsEndpoint())
	list = append(list, s.journalEndpoints()...)
	return list
}

// Handler serves the API without listening, for programs with a server of their own;
// mount it with http.StripPrefix below any path. It asks for the token, or for
// Config.Authorize. The Host header and the limits of connections and times are the
// program's own business.
func (s *Server) Handler() http.Handler { return s.guard(&entrance{}) }

// Start listens where the engine's configuration says: on the socket always, over TCP
// if asked for. It returns once clients can connect. A socket of an engine that runs
// is ErrRunning; one that a dead process left is replaced.
func (s *Server) Start() error {
	node := s.cfg.Engine.Plan().Node
	socket, err := listenSocket(node.Data)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	s.open(&entrance{socket: true}, socket)
	if node.Admin.Listen == "" {
		return nil
	}
	tcp, names, err := listenTCP(&node.Admin, s.cfg.Log)
	if err != nil {
		return errors.Join(fmt.Errorf("admin: %w", err), s.Close(context.Background()))
	}
	s.open(&entrance{names: names}, tcp)
	s.cfg.Log.Info("admin API listens", "address", tcp.Addr().String(), "tls", node.Admin.TLS.Cert != "")
	return nil
}

// Addr is the address that is listened on over TCP, "" where there is none.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.doors {
		if d.listener.Addr().Network() == "tcp" {
			return d.listener.Addr().String()
		}
	}
	return ""
}

// Close ends streams, waits for requests under way as long as ctx allows, and closes
// all connections. The socket is gone after it.
func (s *Server) Close(ctx context.Context) error {
	s.end()
	s.mu.Lock()
	doors := s.doors
	s.doors = nil
	s.mu.Unlock()
	var errs []error
	for _, d := range doors {
		errs = append(errs, d.close(ctx))
	}
	s.work.Wait()
	return errors.Join(errs...)
}
