package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"

	"github.com/weir-project/weir/engine/commit"
	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/engine/vfs"
)

// Store is what a journal is read from: a commit log that is open, or a view of one.
// Nothing is read past what is durable.
type Store interface {
	Held() (first, end uint64)
	Segments() []segment.Info
	Records(from uint64) (*commit.Records, error)
	RecordsAt(g segment.Group) (*commit.Records, error)
	Wait(ctx context.Context, end uint64) error
	Identity() uint64
}

// Config says where a journal is. Store, FS and Dir must be set.
type Config struct {
	Store Store
	FS    vfs.FS
	Dir   string       // data folder
	Log   *slog.Logger // nil: none
}

// Validate says what is missing.
func (c Config) Validate() error {
	if c.Store == nil || c.FS == nil || c.Dir == "" {
		return errors.New("journal: Config.Store, FS and Dir must be set")
	}
	return nil
}

// Journal reads the commit log back. Its methods may be called from any goroutine.
type Journal struct{ cfg Config }

// Open returns the journal of a log. There is nothing to close.
func Open(cfg Config) (*Journal, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Journal{cfg: cfg}, nil
}

// Look opens the journal of a data folder from outside: for reading only, while
// another process may write it. A folder without a log is an error of fs.ErrNotExist.
// Call close when done.
func Look(fsys vfs.FS, dir string, log *slog.Logger) (j *Journal, close func() error, err error) {
	view, err := commit.Look(fsys, dir)
	if err != nil {
		return nil, nil, err
	}
	if j, err = Open(Config{Store: view, FS: fsys, Dir: dir, Log: log}); err != nil {
		return nil, nil, errors.Join(err, view.Close())
	}
	return j, view.Close, nil
}

// errLimit ends a search that has found enough.
var errLimit = errors.New("limit reached")

// search is one query at work.
type search struct {
	j     *Journal
	m     *matcher
	names *names
	parts []part // the log's files when the search began, oldest first
	stats Stats
	past  bool // records before Query.After were met: there is nothing in older files
}

// Stats says what a search had to read.
type Stats struct {
	Segments int   // files of the log
	Indexed  int   // files whose index was used
	Read     int   // blocks, or whole files without an index, that were read
	Bytes    int64 // of the log that were read, about
}

// part is a file of the log and the ordinals in it.
type part struct {
	segment.Info
	end    uint64
	sealed bool
}

// parts lists the files of the log.
func (j *Journal) parts() []part {
	list := j.cfg.Store.Segments()
	_, end := j.cfg.Store.Held()
	var parts []part
	for i, s := range list {
		p := part{Info: s, end: end}
		if i+1 < len(list) {
			p.end, p.sealed = list[i+1].First, true
		}
		if p.First < p.end {
			parts = append(parts, p)
		}
	}
	return parts
}

// Find gives the lines that a query chooses, in its order, until yield returns an
// error, which it returns. Lines are the caller's.
func (j *Journal) Find(ctx context.Context, q Query, yield func(*Line) error) (Stats, error) {
	if err := q.Validate(); err != nil {
		return Stats{}, err
	}
	s := &search{j: j, m: newMatcher(&q), names: newNames(), parts: j.parts()}
	s.stats.Segments = len(s.parts)
	s.names.find = func(epoch, number uint64) error { return s.findNames(ctx, epoch, number) }
	left := q.Limit
	if left == 0 && !q.Oldest {
		left = MaxNewest
	}
	give := func(l *Line) error {
		if err := yield(l); err != nil {
			return err
		}
		if left--; left == 0 {
			return errLimit
		}
		return nil
	}
	var err error
	if q.Oldest {
		err = s.oldest(ctx, give)
	} else {
		err = s.newest(ctx, give, &left)
	}
	if errors.Is(err, errLimit) {
		err = nil
	}
	return s.stats, err
}

// All is Find for what fits into memory: at most MaxNewest lines.
func (j *Journal) All(ctx context.Context, q Query) ([]*Line, error) {
	if q.Limit == 0 || q.Limit > MaxNewest {
		q.Limit = MaxNewest
	}
	var list []*Line
	_, err := j.Find(ctx, q, func(l *Line) error {
		list = append(list, l)
		return nil
	})
	return list, err
}

func (s *search) oldest(ctx context.Context, give func(*Line) error) error {
	for i := range s.parts {
		runs, err := s.runs(&s.parts[i])
		if err != nil {
			return err
		}
		for _, r := range runs {
			if err := s.read(ctx, r, give); err != nil {
				return err
			}
		}
	}
	return nil
}

// newest reads run after run from the end, each forwards, and gives its lines backwards.
func (s *search) newest(ctx context.Context, give func(*Line) error, left *int) error {
	for i := range slices.Backward(s.parts) {
		if s.past {
			return nil
		}
		runs, err := s.runs(&s.parts[i])
		if err != nil {
			return err
		}
		for _, r := range slices.Backward(runs) {
			ring := newRing(*left)
			if err := s.read(ctx, r, ring.add); err != nil {
				return err
			}
			if err := ring.backwards(give); err != nil {
				return err
			}
		}
	}
	return nil
}

// ring keeps the last lines that were added.
type ring struct {
	max   int
	lines []*Line
	next  int
}

func newRing(n int) *ring { return &ring{max: n} }

func (r *ring) add(l *Line) error {
	if len(r.lines) < r.max {
		r.lines = append(r.lines, l)
		return nil
	}
	r.lines[r.next] = l
	r.next = (r.next + 1) % r.max
	return nil
}

func (r *ring) backwards(give func(*Line) error) error {
	for i := range r.lines {
		at := (r.next - 1 - i + 2*len(r.lines)) % len(r.lines)
		if err := give(r.lines[at]); err != nil {
			return err
		}
	}
	return nil
}

// run is a stretch of the log that must be read.
type run struct {
	place *segment.Group // where it begins, nil = to be found
	from  uint64
	to    uint64 // ordinals
	bytes int64
}

// runs says what of a file must be read: all of it where it has no index.
func (s *search) runs(p *part) ([]run, error) {
	whole := []run{{from: p.First, to: p.end, bytes: p.Length}}
	if !p.sealed {
		return whole, nil
	}
	x, err := s.j.index(p)
	if x == nil || err != nil {
		return whole, err
	}
	in := [maxBlocks]bool{}
	for k := range in {
		in[k] = true
	}
	for _, h := range s.m.hashes {
		blocks, findErr := x.find(h)
		if err = findErr; err != nil {
			break
		}
		for k := range in {
			in[k] = in[k] && blocks[k]
		}
	}
	if err := errors.Join(err, x.close()); err != nil {
		s.j.distrust(p, err)
		return whole, nil
	}
	s.stats.Indexed++
	var runs []run
	for k := range x.blocks {
		if !in[k] || !s.m.passes(&x.blocks[k]) {
			continue
		}
		r := run{place: &x.blocks[k].place, from: x.blocks[k].place.First, to: p.end, bytes: p.Length - x.blocks[k].place.Offset}
		if k+1 < len(x.blocks) {
			next := &x.blocks[k+1].place
			r.to, r.bytes = next.First, next.Offset-r.place.Offset
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// index opens a file's index, nil where there is none that is right.
func (j *Journal) index(p *part) (*index, error) {
	f, err := j.cfg.FS.Open(indexPath(j.cfg.Dir, p.Number))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal index of segment %d: %w", p.Number, err)
	}
	x, err := readIndex(f)
	if err == nil && (x.identity != j.cfg.Store.Identity() || x.segment != p.Number || x.first != p.First || x.end != p.end) {
		err = fmt.Errorf("%w: it is of another segment", errIndex)
	}
	if err != nil {
		j.distrust(p, errors.Join(err, f.Close()))
		return nil, nil
	}
	return x, nil
}

// distrust tells of an index that cannot be used; the log is read instead.
func (j *Journal) distrust(p *part, err error) {
	j.cfg.Log.Warn("an index of the journal cannot be used; the log itself is read", "segment", p.Number, "error", err)
}

// open starts reading a run.
func (s *search) open(r run) (*commit.Records, error) {
	if r.place != nil {
		records, err := s.j.cfg.Store.RecordsAt(*r.place)
		if !errors.Is(err, segment.ErrMoved) {
			return records, err
		}
	}
	return s.j.cfg.Store.Records(r.from)
}

// checkEvery is after how many records ctx is looked at.
const checkEvery = 64

// read gives the wanted lines of a run, in order.
func (s *search) read(ctx context.Context, r run, give func(*Line) error) error {
	err := s.readAll(ctx, r, give)
	if gone(err) {
		return nil // dropped by retention meanwhile
	}
	return err
}

// readAll is read for who must not miss what retention drops: that is an error.
func (s *search) readAll(ctx context.Context, r run, give func(*Line) error) error {
	records, err := s.open(r)
	if err != nil {
		return err
	}
	s.stats.Read++
	s.stats.Bytes += r.bytes
	return errors.Join(s.each(ctx, records, r.to, give), records.Close())
}

func gone(err error) bool {
	return errors.Is(err, segment.ErrDropped) || errors.Is(err, fs.ErrNotExist)
}

func (s *search) each(ctx context.Context, records *commit.Records, to uint64, give func(*Line) error) error {
	for n := 0; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rec, err := records.Next()
		if errors.Is(err, segment.ErrCaughtUp) || err == nil && rec.Ordinal >= to {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.record(&rec, give); err != nil {
			return err
		}
	}
}

// record gives the wanted lines of one record.
func (s *search) record(rec *commit.Record, give func(*Line) error) error {
	if rec.At < s.m.q.After {
		s.past = true
		return nil
	}
	if k := Kind(rec.Data[0]); k != KindGeneration && k != kindGeneration1 && (!s.m.during(rec.Wall, rec.Wall) || !s.m.mayHold(rec.Data)) {
		return nil
	}
	n := -1
	stamp := func(l *Line, epoch uint64) error {
		if !s.m.line(l) {
			return nil
		}
		l.Time, l.At, l.Epoch, l.Record, l.Entry = rec.Wall, rec.At, epoch, rec.Ordinal, n
		return give(l)
	}
	err := Read(rec.Data, &Visitor{
		Generation: func(g *Generation) error {
			s.names.learn(g)
			return nil
		},
		Settled: func(epoch, generation uint64, sec *Section, e *Entry) error {
			if n++; !s.m.entry(sec, e) {
				return nil
			}
			g, err := s.names.of(epoch, generation)
			if err != nil {
				return err
			}
			l := lineOf(g, sec, e)
			l.Generation = generation
			return stamp(l, epoch)
		},
		Redelivered: func(epoch uint64, sink string, r *Redelivery) error {
			if n++; !s.m.redelivered(r) {
				return nil
			}
			return stamp(redeliveredLine(sink, r), epoch)
		},
	})
	if errors.Is(err, ErrMalformed) {
		err = fmt.Errorf("journal, segment %d, byte %d, entry %d: %w", rec.Segment, rec.Offset, rec.Ordinal, err)
	}
	return err
}

// findNames looks for the record of a generation, in the newest file first. What an
// index lists is read, and whole files without one.
func (s *search) findNames(ctx context.Context, epoch, number uint64) error {
	key := generationKey{epoch, number}
	for i := range slices.Backward(s.parts) {
		p := &s.parts[i]
		var at []uint64
		x, err := s.j.index(p)
		if err != nil {
			return err
		}
		from, to := p.First, p.end
		if x != nil {
			at = x.generations
			if err := x.close(); err != nil {
				return err
			}
		}
		for k := 0; k < max(1, len(at)); k++ {
			if x != nil && len(at) == 0 {
				break
			}
			if x != nil {
				from, to = at[k], at[k]+1
			}
			if err := s.learn(ctx, from, to); err != nil {
				return err
			}
			if s.names.by[key] != nil {
				return nil
			}
		}
	}
	return nil
}

// learn reads the generation records of a stretch.
func (s *search) learn(ctx context.Context, from, to uint64) error {
	records, err := s.j.cfg.Store.Records(from)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for n := 0; err == nil; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
		var rec commit.Record
		rec, err = records.Next()
		if err != nil || rec.Ordinal >= to {
			break
		}
		if k := Kind(rec.Data[0]); k == KindGeneration || k == kindGeneration1 {
			err = Read(rec.Data, &Visitor{Generation: func(g *Generation) error {
				s.names.learn(g)
				return nil
			}})
		}
	}
	if errors.Is(err, segment.ErrCaughtUp) || gone(err) {
		err = nil
	}
	return errors.Join(err, records.Close())
}
