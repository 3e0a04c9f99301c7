package transporttest_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/memory"
	"github.com/weir-project/weir/transports/transporttest"
)

// webQueue is a queue behind HTTP, so that the kit's network cases have
// something sound to pass and something broken to find. Its queue is memory's.
//
//	POST /put                 [Entry] -> 200
//	POST /take                {Session, Max, Wait} -> [Delivery]
//	POST /settle              {Session, List} -> [bool], false = not held
//	POST /leave               Session -> true; what it held is free at once
type webQueue struct {
	queues *memory.Transport
	server *httptest.Server

	mu       sync.Mutex // guards all below
	sessions map[string]transports.Source
	refuse   func([]byte) bool
}

const (
	webToken = "sesame"
	// webLease is long: what a source holds is its own even if the machine is slow.
	webLease = 5 * time.Second
	// lostLease is that of ends whose replies get lost, so that they come again soon.
	lostLease = 800 * time.Millisecond
)

type takeRequest struct {
	Session string
	Max     int
	Wait    time.Duration
	Lease   time.Duration
}

type settleRequest struct {
	Session string
	List    []transports.Settlement
}

func newWebQueue(t *testing.T) *webQueue {
	t.Helper()
	q := &webQueue{queues: memory.New(), sessions: map[string]transports.Source{}}
	q.server = httptest.NewServer(http.HandlerFunc(q.serve))
	t.Cleanup(q.server.Close)
	return q
}

func (q *webQueue) serve(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(webToken)) == 0 {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	answer, err := q.answer(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_ = json.NewEncoder(w).Encode(answer) // a client that is gone asks again
}

func (q *webQueue) answer(r *http.Request) (any, error) {
	in := json.NewDecoder(r.Body)
	switch r.URL.Path {
	case "/put":
		var entries []transports.Entry
		if err := in.Decode(&entries); err != nil {
			return nil, err
		}
		return q.put(entries), nil
	case "/take":
		var req takeRequest
		if err := in.Decode(&req); err != nil {
			return nil, err
		}
		s, err := q.session(req.Session, req.Lease)
		if err != nil {
			return nil, err
		}
		return s.Receive(r.Context(), req.Max, req.Wait)
	case "/leave":
		var name string
		if err := in.Decode(&name); err != nil {
			return nil, err
		}
		return true, q.leave(name)
	}
	var req settleRequest
	if err := in.Decode(&req); err != nil {
		return nil, err
	}
	s, err := q.session(req.Session, webLease)
	if err != nil {
		return nil, err
	}
	held := make([]bool, len(req.List))
	for i, err := range s.Settle(r.Context(), req.List) {
		held[i] = err == nil
	}
	return held, nil
}

// put takes entries until one is refused: that one's and the later ones' answers are false.
func (q *webQueue) put(entries []transports.Entry) []bool {
	q.mu.Lock()
	refuse := q.refuse
	q.mu.Unlock()
	taken := make([]bool, len(entries))
	for i, e := range entries {
		taken[i] = (refuse == nil || !refuse(e.Data)) && q.queues.Queue("q").Put(e) == nil
	}
	return taken
}

func (q *webQueue) leave(name string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sessions[name]
	if s == nil {
		return nil
	}
	delete(q.sessions, name)
	return s.Close(context.Background())
}

func (q *webQueue) session(name string, lease time.Duration) (transports.Source, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.sessions[name]; s != nil {
		return s, nil
	}
	s, err := q.queues.NewSource(transports.Env{Name: name}, transports.Settings{"queue": "q", "lease": lease})
	if err != nil {
		return nil, err
	}
	q.sessions[name] = s
	return s, s.Open(context.Background(), nil, nil)
}

// move forgets every session, as a broker does that hands a topic to another.
func (q *webQueue) move() error {
	q.server.CloseClientConnections()
	q.mu.Lock()
	defer q.mu.Unlock()
	var errs []error
	for _, s := range q.sessions {
		errs = append(errs, s.Close(context.Background()))
	}
	clear(q.sessions)
	return errors.Join(errs...)
}

func (q *webQueue) setRefuse(match func([]byte) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refuse = match
}

// web is a transport to a webQueue; bug is what is wrong with it.
type web struct{ bug string }

func (*web) Name() string { return "web" }

func (*web) Options() (source, sink []transports.Option) {
	options := []transports.Option{
		{Name: "address", Required: true, Doc: "Host and port."},
		{Name: "token", Secret: true, Doc: "What lets in."},
		{Name: "lease", Default: webLease, Doc: "How long what was given is held."},
	}
	return options, options
}

func (w *web) client(s transports.Settings) *webClient {
	limit := time.Second
	if w.bug == "hangs in a black hole" {
		limit = time.Hour
	}
	return &webClient{
		bug: w.bug, url: "http://" + s.String("address"), token: s.String("token"), limit: limit,
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}},
	}
}

func (w *web) NewSource(env transports.Env, s transports.Settings) (transports.Source, error) {
	return &webSource{webClient: w.client(s), lease: s["lease"].(time.Duration), session: fmt.Sprintf("%s-%d", env.Name, time.Now().UnixNano()), closing: make(chan struct{})}, nil
}

func (w *web) NewSink(_ transports.Env, s transports.Settings) (transports.Sink, error) {
	return &webSink{webClient: w.client(s)}, nil
}

type webClient struct {
	bug, url, token string
	limit           time.Duration
	http            *http.Client
}

// statusError is an answer that is not 200.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

// call posts a request and reads the answer.
func (c *webClient) call(ctx context.Context, path string, request, answer any, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait+c.limit)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp.StatusCode)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// webClass sorts what call returns.
func webClass(err error) transports.Class {
	var status statusError
	var refused *net.OpError
	switch {
	case err == nil:
		return transports.OK
	case errors.As(err, &status) && status == http.StatusUnauthorized:
		return transports.Fatal
	case errors.As(err, &status) && status == http.StatusTooManyRequests:
		return transports.Throttled
	case errors.As(err, &status), errors.As(err, &refused) && refused.Op == "dial":
		return transports.Retry
	}
	return transports.Unknown
}

type webSource struct {
	*webClient
	session string
	lease   time.Duration
	closing chan struct{}
	once    sync.Once
	lost    bool
}

func (*webSource) Capabilities() transports.Capabilities {
	return transports.Capabilities{Order: transports.OrderKey, Positions: transports.KeptByBroker, Nack: true}
}

func (s *webSource) Open(_ context.Context, _ map[string]transports.Position, l transports.Listener) error {
	if l != nil {
		l.Assigned("q")
	}
	return nil
}

func (s *webSource) Receive(ctx context.Context, most int, wait time.Duration) ([]transports.Delivery, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-s.closing:
			cancel(transports.ErrClosed)
		case <-ctx.Done():
		}
	}()
	for start := time.Now(); ; {
		if s.lost {
			<-time.After(wait)
			return nil, nil
		}
		var got []transports.Delivery
		err := s.call(ctx, "/take", takeRequest{s.session, most, wait, s.lease}, &got, wait)
		switch {
		case err == nil:
			return got, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case webClass(err) == transports.Fatal && s.bug != "a wrong token is tried again", s.bug == "gives up after an error":
			return nil, fmt.Errorf("%w: %w", transports.ErrFatal, err)
		case s.bug == "does not come back":
			s.lost = true
		case s.bug == "reconnects without a pause" && time.Since(start) < wait:
			continue
		}
		return nil, err
	}
}

func (s *webSource) Settle(ctx context.Context, list []transports.Settlement) []error {
	var held []bool
	err := s.call(ctx, "/settle", settleRequest{s.session, list}, &held, 0)
	errs := make([]error, len(list))
	for i := range errs {
		switch {
		case err != nil:
			errs[i] = err
		case !held[i]:
			errs[i] = transports.ErrNotHeld
		}
	}
	return errs
}

func (s *webSource) Close(ctx context.Context) error {
	s.once.Do(func() {
		close(s.closing)
		var left bool
		_ = s.call(ctx, "/leave", s.session, &left, 0) // if it does not arrive, the lease ends
	})
	s.http.CloseIdleConnections()
	return nil
}

type webSink struct {
	*webClient
	mu     sync.Mutex
	closed bool
}

func (*webSink) Limits() transports.Limits  { return transports.Limits{Entries: 100} }
func (*webSink) Open(context.Context) error { return nil }

func (s *webSink) Write(ctx context.Context, batch []transports.Entry, results []transports.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken []bool
	err := transports.ErrClosed
	if !s.closed {
		err = s.call(ctx, "/put", batch, &taken, 0)
	}
	for i := range results {
		switch {
		case err == transports.ErrClosed:
			results[i] = transports.Result{Class: transports.Fatal, Err: err}
		case err != nil && s.bug == "takes silence for consent":
			results[i] = transports.Result{}
		case err != nil && s.bug == "a wrong token is tried again":
			results[i] = transports.Result{Class: transports.Retry, Err: err}
		case err != nil:
			results[i] = transports.Result{Class: webClass(err), Err: err}
		case !taken[i]:
			results[i] = transports.Result{Class: transports.Retry, Err: errors.New("refused")}
		default:
			results[i] = transports.Result{}
		}
	}
}

func (*webSink) Flush(context.Context) error { return nil }

func (s *webSink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.http.CloseIdleConnections()
	return nil
}

// webFactory runs the kit's network cases against a web transport with a bug, "" = none.
func webFactory(bug string) transporttest.Factory {
	return transporttest.Factory{
		Name:      "web",
		Transport: func() transports.Transport { return &web{bug} },
		Place: func(t *testing.T, _ transports.Transport, _ string) transporttest.Place {
			q := newWebQueue(t)
			via := func(address, token string) transports.Settings {
				return transports.Settings{"address": address, "token": token}
			}
			faulty := func(at string) (source, sink transports.Settings) {
				return transports.Settings{"address": at, "token": webToken, "lease": lostLease}, via(at, webToken)
			}
			address := strings.TrimPrefix(q.server.URL, "http://")
			return transporttest.Place{
				Source: via(address, webToken), Sink: via(address, webToken),
				Refuse: q.setRefuse, Move: q.move,
				Network: &transporttest.Network{
					Target: address, HTTP: true,
					Via: faulty,
				},
				Logins: []transporttest.Login{
					{Name: "the right token", Works: true},
					{Name: "a wrong token", Source: via(address, "open"), Sink: via(address, "open")},
				},
			}
		},
		Carries: transporttest.Carries{Keys: true, Headers: true, Binary: true, Empty: true},
		Lacks: transporttest.Lacking("the queue is in the test's memory", transporttest.Crash, transporttest.Kill,
			transporttest.Lease, transporttest.Group),
		Classes:       webClasses(bug),
		ClassesGolden: "testdata/web.classes",
	}
}

func webClasses(bug string) (list []transporttest.Class) {
	for _, status := range []int{401, 429, 500, 503} {
		class := webClass(statusError(status))
		if bug == "sorts an error otherwise" && status == 500 {
			class = transports.Poison
		}
		list = append(list, transporttest.Class{Cause: cmp.Or(http.StatusText(status), "?"), Class: class})
	}
	return append(list, transporttest.Class{Cause: "the connection ends before the reply", Class: webClass(io.ErrUnexpectedEOF)})
}
