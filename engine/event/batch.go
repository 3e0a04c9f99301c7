package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
)

// MaxBatch is how many events one CloudEvents batch may hold.
const MaxBatch = 10_000

// DecodeBatch reads application/cloudevents-batch+json: an array of structured
// CloudEvents, which may be empty. lim bounds each event; the caller bounds
// the whole. The first wrong event refuses the batch; its *Error names the
// index.
func DecodeBatch(raw []byte, m Missing, lim Limits) ([]Event, error) {
	depth := orDefault(lim.Depth, DefaultDepth)
	if depth < math.MaxInt {
		depth++ // the array
	}
	if err := validateJSON(raw, depth); err != nil {
		return nil, err
	}
	values, ok := parseArray(raw)
	if !ok {
		return nil, &Error{Reason: "is no array, as a batch must be", Offset: 0}
	}
	if len(values) > MaxBatch {
		return nil, &Error{Reason: "has " + strconv.Itoa(len(values)) + " events, more than the limit of " + strconv.Itoa(MaxBatch), Offset: -1}
	}
	events := make([]Event, len(values))
	for i, value := range values {
		value = value[:len(value):len(value)]
		var err error
		if events[i], err = Decode(value, CodecOf(CloudEvents), m, lim); err != nil {
			if wrong, ok := err.(*Error); ok {
				wrong.Field = "[" + strconv.Itoa(i) + "]" + dotted(wrong.Field)
			}
			return nil, err
		}
	}
	return events, nil
}

func dotted(field string) string {
	if field == "" {
		return ""
	}
	return "." + field
}

// EncodeBatch appends application/cloudevents-batch+json. Events must have
// ids. On an error dst is returned as it was; its *Error names the index.
func EncodeBatch(dst []byte, events []Event, stamps Stamps) ([]byte, error) {
	out := append(dst, '[')
	stamps.ID = "" // one id is nothing for many events
	for i := range events {
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = events[i].AppendCloudEvent(out, stamps); err != nil {
			if wrong, ok := err.(*Error); ok {
				copied := *wrong
				copied.Field = "[" + strconv.Itoa(i) + "]" + dotted(wrong.Field)
				err = &copied
			}
			return dst, err
		}
	}
	return append(out, ']'), nil
}

// StampID is the id of an event that came without one: the same whenever the
// same event is read again, 32 hexadecimal digits (the first 16 bytes of
// SHA-256 over source name, partition and position, each behind its length in
// 8 bytes big-endian, and the ordinal in 8 bytes).
func StampID(source, partition string, position []byte, ordinal uint64) string {
	h := sha256.New()
	var n [8]byte
	for _, part := range [...]string{source, partition, string(position)} {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	binary.BigEndian.PutUint64(n[:], ordinal)
	h.Write(n[:])
	return hex.EncodeToString(h.Sum(nil)[:16])
}
