package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/journal"
	"github.com/weir-project/weir/engine/vfs"
)

// Query names what Explain is to explain: an event by its ID, as the journal lists it,
// or the bytes of one, or both.
type Query struct {
	ID string `json:"id,omitempty"`
	// Source is the source that the event came by, or would: by name. It may be left
	// out with an ID, and where the configuration has only one.
	Source string `json:"source,omitempty"`
	// Event holds an event, or several, as the source would hand them over: any
	// envelope that the source reads.
	Event []byte `json:"event,omitempty"`
	// Key is what the transport would give as the key; nil = none.
	Key []byte `json:"key,omitempty"`
}

// maxRecorded is how many lines of the journal an explanation holds.
const maxRecorded = 100

// Explanation says where an event went and why: what the journal holds of it, and
// what the configuration at work says of its bytes.
type Explanation struct {
	ID     string `json:"id,omitempty"`
	Source string `json:"source,omitempty"`
	Live   bool   `json:"live"` // a running engine has answered
	// Generation is the configuration by which Events were examined.
	Generation uint64 `json:"generation,omitempty"`
	Digest     string `json:"digest,omitempty"`
	// Recorded are the journal's lines of ID, oldest first, at most 100.
	Recorded []*journal.Line `json:"recorded,omitempty"`
	// Since is how far the journal goes back; zero where there is none.
	Since time.Time `json:"since,omitzero"`
	// Events says, for each event in the bytes, what would become of it now.
	Events []flow.Examination `json:"events,omitempty"`
}

// ErrNotFound: neither the journal knows the event nor were its bytes given.
var ErrNotFound = errors.New("the journal does not know the event")

// Validate says what a query lacks.
func (q *Query) Validate() error {
	if q.ID == "" && len(q.Event) == 0 {
		return errors.New("explain: name an event's id, or give the bytes of one")
	}
	return nil
}

// Explain says what became of an event and why. It changes nothing: no claim, no
// record, no delivery. It may be called from New until Run or Close has returned. An
// event that the journal does not know is ErrNotFound, unless its bytes are given.
func (e *Engine) Explain(ctx context.Context, q Query) (Explanation, error) {
	g := e.flow.Generation()
	x := Explanation{Live: true, Generation: g.Number, Digest: g.Digest}
	return explain(ctx, x, q, g.Sources(), e.flow.Journal(), func(in flow.Sample) ([]flow.Examination, error) { return e.flow.Examine(ctx, in) })
}

// TapQuery chooses the events that a tap shows.
type TapQuery = flow.TapQuery

// Tap begins a live view of the events that are settled from now on. It never holds
// them up: see flow.Tap.
func (e *Engine) Tap(q TapQuery) (*flow.Tap, error) { return e.flow.Tap(q) }

// explain puts an explanation together; j is nil where there is no journal.
func explain(ctx context.Context, x Explanation, q Query, sources []string, j *journal.Journal, examine func(flow.Sample) ([]flow.Examination, error)) (Explanation, error) {
	if err := q.Validate(); err != nil {
		return x, err
	}
	x.ID, x.Source = q.ID, q.Source
	if len(q.Event) > 0 {
		source, err := sourceOf(q.Source, sources)
		if err != nil {
			return x, err
		}
		if x.Events, err = examine(flow.Sample{Source: source, Data: q.Event, Key: q.Key}); err != nil {
			return x, err
		}
		// A stamped id is made of where the event stands; here it stands nowhere.
		if x.Source = source; x.ID == "" && len(x.Events) == 1 && !x.Events[0].Stamped {
			x.ID = x.Events[0].ID
		}
	}
	if j == nil || x.ID == "" {
		return x, nil
	}
	var err error
	if x.Since, err = j.Since(); err != nil {
		return x, fmt.Errorf("journal: %w", err)
	}
	// The newest lines, in the order in which they came to be.
	list, err := j.All(ctx, journal.Query{ID: x.ID, Source: q.Source, Limit: maxRecorded})
	if err != nil {
		return x, fmt.Errorf("journal: %w", err)
	}
	for i := range list {
		x.Recorded = append(x.Recorded, list[len(list)-1-i])
	}
	if len(list) == 0 && len(q.Event) == 0 {
		return x, fmt.Errorf("%w: %q", ErrNotFound, x.ID)
	}
	return x, nil
}

func sourceOf(name string, sources []string) (string, error) {
	switch {
	case name == "" && len(sources) == 1:
		return sources[0], nil
	case name == "":
		return "", &SourceError{Sources: sources}
	}
	for _, s := range sources {
		if s == name {
			return name, nil
		}
	}
	return "", &SourceError{Name: name, Sources: sources}
}

// SourceError says that a query names no source, or one that is not there.
type SourceError struct {
	Name    string
	Sources []string // those that are there
}

func (e *SourceError) Error() string {
	if e.Name == "" {
		return "explain: which source would the event come by? There are: " + strings.Join(e.Sources, ", ")
	}
	return fmt.Sprintf("explain: no source %q; there are: %s", e.Name, strings.Join(e.Sources, ", "))
}

// Inspector explains events by a configuration, and by what an engine has left or
// another process is writing in its data folder: without running one. It takes no
// lock and changes nothing. Its methods may be called from any goroutine.
type Inspector struct {
	loaded  *Engine // never runs: the plug-ins' owner
	gen     *flow.Generation
	journal *journal.Journal // nil: there is no data folder
	close   func() error
}

// NewInspector reads the configuration and loads its plug-ins. Of cfg it uses File or
// Plan, Transports, Plugins, Log, Now and FS.
func NewInspector(cfg Config) (*Inspector, error) {
	plan := cfg.Plan
	if plan == nil {
		var err error
		if plan, err = config.Load(config.Options{File: cfg.File, Transports: cfg.Transports, Hosts: hostNames(cfg.Plugins)}); err != nil {
			return nil, err
		}
	}
	if cfg.FS == nil {
		cfg.FS = vfs.OS{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	i := &Inspector{loaded: &Engine{cfg: cfg, dry: true}, close: func() error { return nil }}
	if err := i.open(plan); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Inspector) open(plan *config.Plan) error {
	e := i.loaded
	v, err := e.load(context.Background(), plan)
	if err != nil {
		return err
	}
	if i.gen, err = flow.Compile(plan, 0, v.plugins); err != nil {
		return err
	}
	j, closeJournal, err := journal.Look(e.cfg.FS, plan.Node.Data, e.cfg.Log)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	i.journal, i.close = j, closeJournal
	return nil
}

// Explain is Engine.Explain; what the windows know is told from the journal.
func (i *Inspector) Explain(ctx context.Context, q Query) (Explanation, error) {
	var window flow.Window
	if i.journal != nil {
		window = flow.JournalWindow(ctx, i.journal)
	}
	return explain(ctx, Explanation{Digest: i.gen.Digest}, q, i.gen.Sources(), i.journal, func(in flow.Sample) ([]flow.Examination, error) {
		return i.gen.Examine(ctx, in, i.loaded.cfg.Now(), window)
	})
}

// Close gives back what the inspector holds.
func (i *Inspector) Close() error { return errors.Join(i.close(), i.loaded.closePlugins()) }
