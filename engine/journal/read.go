package journal

import (
	"encoding/binary"
	"fmt"
)

// Visitor receives what Read finds. Nil members are skipped. Slices and
// structs are valid during the call only.
type Visitor struct {
	Settled     func(epoch, generation uint64, s *Section, e *Entry) error
	Generation  func(*Generation) error
	Redelivered func(epoch uint64, sink string, r *Redelivery) error
	Exported    func(Exported) error
}

// Read walks one record. Errors wrap ErrMalformed and name the byte offset, or
// are the visitor's own.
func Read(record []byte, v *Visitor) error {
	r := reader{b: record}
	kind := Kind(r.byte())
	switch kind {
	case KindSettled, kindSettled1:
		return r.settled(v, kind == KindSettled)
	case KindGeneration, kindGeneration1:
		return r.generation(v, kind == KindGeneration)
	case KindRedelivered, kindRedelivered1:
		return r.redelivered(v, kind == KindRedelivered)
	case KindExported:
		return r.exported(v)
	}
	return fmt.Errorf("%w: kind %d at byte 0", ErrMalformed, kind)
}

// reader walks bytes; its first failure sticks; values read after it are zero.
type reader struct {
	b    []byte
	at   int
	bad  bool
	text [uuidText]byte // of an id that stands as a UUID
}

func (r *reader) settled(v *Visitor, outputs bool) error {
	epoch, generation := r.uvarint(), r.uvarint()
	var s Section
	var e Entry
	for !r.bad && r.at < len(r.b) {
		s = Section{
			Source: string(r.bytes()), Partition: string(r.bytes()),
			LowOrdinal: r.uvarint(), Low: r.bytes(),
			First: r.uvarint(), End: r.uvarint(), Total: r.uvarint(),
			Start: r.bytes(), Next: r.bytes(),
		}
		prev := s.First
		for n := r.uvarint(); n > 0 && !r.bad; n-- {
			r.entry(&e, prev, outputs)
			prev = e.Ordinal
			if r.bad || v.Settled == nil {
				continue
			}
			if err := v.Settled(epoch, generation, &s, &e); err != nil {
				return err
			}
		}
	}
	return r.err()
}

func (r *reader) entry(e *Entry, prev uint64, outputs bool) {
	*e = Entry{Routes: e.Routes[:0], Taken: e.Taken[:0], Notes: e.Notes[:0]}
	e.Ordinal = prev + uint64(r.varint())
	outcome, flags := r.byte(), r.byte()
	e.Outcome = Outcome(outcome &^ shortID)
	if e.Outcome == 0 || e.Outcome > lastResult {
		r.bad = true
	}
	if flags&flagSub != 0 {
		e.Sub = r.uint32()
	}
	if e.Identified = flags&flagIdentity != 0; e.Identified {
		e.Hi, e.Lo = r.fixed64(), r.fixed64()
	}
	e.HasVersion = flags&flagVersion != 0
	if e.Claimed = flags&flagClaimed != 0; e.Claimed {
		e.Data = r.fixed64()
		if e.HasVersion {
			e.Version = r.uint32()
		}
	}
	e.Key = e.Hi
	if flags&flagKey != 0 {
		e.Key = r.fixed64()
	}
	if e.ID = nil; outcome&shortID == 0 {
		e.ID = r.bytes()
	} else {
		e.ID = r.uuid()
	}
	if flags&flagRoutes != 0 {
		r.routes(e, outputs)
	}
	if flags&flagReason != 0 {
		e.Reason = string(r.bytes())
	}
	if flags&flagNotes == 0 {
		return
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		e.Notes = append(e.Notes, Note{
			Route: r.uint32(), Sink: r.uint32(), Outcome: Outcome(r.byte()),
			Attempts: r.uint32(), Reason: string(r.bytes()),
		})
	}
}

func (r *reader) routes(e *Entry, outputs bool) {
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		if !outputs {
			e.Routes = append(e.Routes, r.uint32())
			continue
		}
		v := r.uvarint()
		if v>>1 > 1<<32-1 {
			r.bad = true
		}
		taken := uint32(NoOutputs)
		if v&1 != 0 {
			taken = r.uint32()
		}
		e.Routes, e.Taken = append(e.Routes, uint32(v>>1)), append(e.Taken, taken)
	}
}

func (r *reader) generation(v *Visitor, exits bool) error {
	g := Generation{Epoch: r.uvarint(), Number: r.uvarint(), Digest: string(r.bytes())}
	g.Routes, g.Sinks = r.names(), r.names()
	if exits {
		for range g.Routes {
			if r.bad {
				break
			}
			g.Exits = append(g.Exits, r.exit())
		}
		g.Unmatched = r.indices()
	}
	if err := r.err(); err != nil || v.Generation == nil {
		return err
	}
	return v.Generation(&g)
}

func (r *reader) names() []string {
	var names []string
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		names = append(names, string(r.bytes()))
	}
	return names
}

func (r *reader) exit() (x Exit) {
	x.To = r.indices()
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		x.Outputs = append(x.Outputs, Output{Name: string(r.bytes()), To: r.indices()})
	}
	x.Else = r.indices()
	return x
}

func (r *reader) indices() (list []uint32) {
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		list = append(list, r.uint32())
	}
	return list
}

func (r *reader) exported(v *Visitor) error {
	x := Exported{Sink: string(r.bytes()), Ordinal: r.uvarint()}
	if err := r.err(); err != nil || v.Exported == nil {
		return err
	}
	return v.Exported(x)
}

func (r *reader) redelivered(v *Visitor, named bool) error {
	epoch, sink := r.uvarint(), string(r.bytes())
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		e := Redelivery{Ordinal: r.uvarint(), Outcome: Outcome(r.byte()), Attempts: r.uint32(), Reason: string(r.bytes())}
		if named {
			e.Source, e.ID, e.Route = string(r.bytes()), string(r.bytes()), string(r.bytes())
		}
		if r.bad || v.Redelivered == nil {
			continue
		}
		if err := v.Redelivered(epoch, sink, &e); err != nil {
			return err
		}
	}
	return r.err()
}

func (r *reader) err() error {
	if r.bad {
		return fmt.Errorf("%w: at byte %d of %d", ErrMalformed, r.at, len(r.b))
	}
	return nil
}

func (r *reader) byte() byte {
	if r.bad || r.at >= len(r.b) {
		r.bad = true
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

func (r *reader) uvarint() uint64 {
	if r.bad {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.at += n
	return v
}

func (r *reader) varint() int64 {
	if r.bad {
		return 0
	}
	v, n := binary.Varint(r.b[r.at:])
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.at += n
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.bad = true
	}
	return uint32(v)
}

func (r *reader) fixed64() uint64 {
	if r.bad || len(r.b)-r.at < 8 {
		r.bad = true
		return 0
	}
	r.at += 8
	return binary.LittleEndian.Uint64(r.b[r.at-8:])
}

// uuid reads a UUID and returns its text.
func (r *reader) uuid() []byte {
	if r.bad || len(r.b)-r.at < uuidBytes {
		r.bad = true
		return nil
	}
	r.at += uuidBytes
	return appendUUIDText(r.text[:0], [uuidBytes]byte(r.b[r.at-uuidBytes:]))
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if r.bad || n > uint64(len(r.b)-r.at) {
		r.bad = true
		return nil
	}
	r.at += int(n)
	return r.b[r.at-int(n) : r.at : r.at]
}
