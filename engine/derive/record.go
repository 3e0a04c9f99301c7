package derive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/weir-project/weir/engine/event"
)

// Kind says why an event re-enters.
type Kind uint8

// Kinds of records.
const (
	// Derived: a route emitted it.
	Derived Kind = 1
	// Reentry: it was in the data path before, and comes again as it came then,
	// without de-duplication and expiry.
	Reentry Kind = 2
)

// Record is one event that re-enters.
type Record struct {
	Kind Kind
	// Source, Partition, Ordinal and Sub say from where the event came first; of a
	// derived event, from where its root came. Source is a name of the configuration.
	Source    string
	Partition string
	Ordinal   uint64
	Sub       uint32 // which event of a unit that held several
	// KeyHash decides order where Keyed is true; else the event's own key does.
	KeyHash uint64
	Keyed   bool
	Key     []byte // as sinks get it; nil = none
	Lineage Lineage
	// Attempts is how often the event failed before; with it, Route and Sink may say
	// what it is for, of all that its source's events are for ("" = everything).
	Attempts    uint32
	Route, Sink string
	Data        []byte // the event in its envelopes
}

// Lineage is how an event descends from one that came from outside. The zero value
// stands for an event that did itself.
type Lineage struct {
	Hop         uint32   `json:"hop"`         // 1 = its cause came from outside
	Number      uint32   `json:"number"`      // which of its root's descendants it is, from 1
	RootHi      uint64   `json:"root_hi"`     // fingerprint of the root's identity
	RootLo      uint64   `json:"root_lo"`     //
	Cause       string   `json:"cause"`       // id of the event that caused it
	Correlation string   `json:"correlation"` // what it and all its relatives belong to
	Route       string   `json:"route"`       // that emitted it
	EventSource string   `json:"event_source"`
	Envelopes   []string `json:"envelopes"` // that it stands in, outermost first
}

// JSON is the lineage as dead letters hold it.
func (l *Lineage) JSON() []byte {
	b, _ := json.Marshal(l) // nothing in it can fail
	return b
}

// Derived says that the event descends from another.
func (l *Lineage) Derived() bool { return l.Hop > 0 }

const version = 1

const (
	flagKeyed = 1 << iota
	flagKey
	flagLineage
	flagAgain
)

// Append appends the record's bytes to dst.
func (r *Record) Append(dst []byte) []byte {
	var flags byte
	if r.Keyed {
		flags |= flagKeyed
	}
	if r.Key != nil {
		flags |= flagKey
	}
	if r.Lineage.Derived() {
		flags |= flagLineage
	}
	if r.Attempts > 0 {
		flags |= flagAgain
	}
	b := append(dst, version<<4|byte(r.Kind), flags)
	b = appendText(appendText(b, r.Source), r.Partition)
	b = binary.AppendUvarint(b, r.Ordinal)
	b = binary.AppendUvarint(b, uint64(r.Sub))
	if r.Keyed {
		b = binary.LittleEndian.AppendUint64(b, r.KeyHash)
	}
	if r.Key != nil {
		b = appendText(b, r.Key)
	}
	if l := &r.Lineage; l.Derived() {
		b = l.append(b)
	}
	if r.Attempts > 0 {
		b = binary.AppendUvarint(b, uint64(r.Attempts))
		b = appendText(appendText(b, r.Route), r.Sink)
	}
	return append(b, r.Data...)
}

func (l *Lineage) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(l.Hop))
	b = binary.AppendUvarint(b, uint64(l.Number))
	b = binary.LittleEndian.AppendUint64(b, l.RootHi)
	b = binary.LittleEndian.AppendUint64(b, l.RootLo)
	for _, s := range [...]string{l.Cause, l.Correlation, l.Route, l.EventSource} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(l.Envelopes)))
	for _, s := range l.Envelopes {
		b = appendText(b, s)
	}
	return b
}

func appendText[S string | []byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// ErrMalformed is wrapped by every error of Parse.
var ErrMalformed = errors.New("malformed record")

// maxEnvelopes bounds what a record may say it stands in.
const maxEnvelopes = 16

// Parse reads a record back. Key and Data are slices of b.
func Parse(b []byte) (Record, error) {
	if len(b) < 2 {
		return Record{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	r := Record{Kind: Kind(b[0] & 0x0f)}
	flags := b[1]
	switch {
	case b[0]>>4 != version:
		return r, fmt.Errorf("%w: version %d, want %d", ErrMalformed, b[0]>>4, version)
	case r.Kind != Derived && r.Kind != Reentry:
		return r, fmt.Errorf("%w: kind %d", ErrMalformed, r.Kind)
	case flags&^(flagKeyed|flagKey|flagLineage|flagAgain) != 0:
		return r, fmt.Errorf("%w: flags %#x", ErrMalformed, flags)
	case r.Kind == Derived && flags&flagLineage == 0:
		return r, fmt.Errorf("%w: a derived event without its lineage", ErrMalformed)
	}
	d := decoder{b: b[2:]}
	r.Source, r.Partition = string(d.text()), string(d.text())
	r.Ordinal, r.Sub = d.number(), d.number32()
	if flags&flagKeyed != 0 {
		r.Keyed, r.KeyHash = true, d.fixed()
	}
	if flags&flagKey != 0 {
		r.Key = d.text()
	}
	if flags&flagLineage != 0 {
		d.lineage(&r.Lineage)
	}
	if flags&flagAgain != 0 {
		if r.Attempts = d.number32(); r.Attempts == 0 {
			d.bad = true
		}
		r.Route, r.Sink = string(d.text()), string(d.text())
	}
	if d.bad {
		return Record{}, fmt.Errorf("%w: %d bytes do not hold what they say", ErrMalformed, len(b))
	}
	r.Data = d.b
	return r, nil
}

// decoder reads from the front of b; its first failure sticks.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) lineage(l *Lineage) {
	l.Hop, l.Number = d.number32(), d.number32()
	l.RootHi, l.RootLo = d.fixed(), d.fixed()
	for _, s := range [...]*string{&l.Cause, &l.Correlation, &l.Route, &l.EventSource} {
		*s = string(d.text())
	}
	n := d.number()
	if n > maxEnvelopes || l.Hop == 0 {
		d.bad = true
	}
	for ; n > 0 && !d.bad; n-- {
		l.Envelopes = append(l.Envelopes, string(d.text()))
	}
}

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) number32() uint32 {
	v := d.number()
	if v > 1<<32-1 {
		d.bad = true
	}
	return uint32(v)
}

func (d *decoder) fixed() uint64 {
	if len(d.b) < 8 {
		d.bad, d.b = true, nil
		return 0
	}
	v := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *decoder) text() []byte {
	n := d.number()
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	s := d.b[:n:n]
	d.b = d.b[n:]
	return s
}

// Attributes of derived events.
const (
	CauseAttribute       = "causationid"
	CorrelationAttribute = "correlationid"
	HopAttribute         = "hop"
)

// Mark sets the attributes that tell of an event's descent.
func (l *Lineage) Mark(e *event.Event) {
	e.SetExtension(CauseAttribute, l.Cause)
	e.SetExtension(CorrelationAttribute, l.Correlation)
	e.SetExtension(HopAttribute, int32(min(l.Hop, math.MaxInt32)))
}

// Unmark takes the attributes away that Mark sets, but for a correlation that the
// innermost of the envelopes has a place for.
func Unmark(e *event.Event, chain []event.Envelope) {
	e.SetExtension(CauseAttribute, nil)
	e.SetExtension(HopAttribute, nil)
	if len(chain) == 0 || chain[len(chain)-1] != event.EventHub {
		e.SetExtension(CorrelationAttribute, nil)
	}
}

// Emission names one event that one event gives rise to.
type Emission struct {
	Source, ID string // of the cause
	Version    uint32 // of the cause, for de-duplication
	Replay     string // the replay that the cause came in
	Route      string
	Plugin     string // what emitted it: "template", or a plug-in's name
	Ordinal    int    // which of the events that it emitted
}

// EventID is the derived event's id: the same whenever the cause is worked on again.
func (e *Emission) EventID() string {
	h := sha256.New()
	var n [8]byte
	number := func(v uint64) {
		binary.BigEndian.PutUint64(n[:], v)
		h.Write(n[:])
	}
	for _, part := range [...]string{e.Source, e.ID, e.Replay, e.Route, e.Plugin} {
		number(uint64(len(part)))
		h.Write([]byte(part))
	}
	number(uint64(e.Version))
	number(uint64(e.Ordinal))
	return hex.EncodeToString(h.Sum(nil)[:16])
}
