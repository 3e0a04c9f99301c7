package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/weir-project/weir/transports"
)

// Limits of one entry as it stands in the log.
const (
	maxFrame   = 16 << 20 // bytes, all parts together
	maxHeaders = 1024
)

const (
	entryVersion = 1 << 4
	flagKey      = 1
	flagHeaders  = 2
)

var errEntry = errors.New("not an entry of a local queue")

// appendEntry appends the entry's form in the log to dst.
func appendEntry(dst []byte, e *transports.Entry, published time.Time) []byte {
	head := byte(entryVersion)
	if e.Key != nil {
		head |= flagKey
	}
	if len(e.Headers) > 0 {
		head |= flagHeaders
	}
	dst = append(dst, head)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(published.UnixNano()))
	dst = appendText(dst, e.ID)
	dst = appendText(dst, e.Route)
	if e.Key != nil {
		dst = binary.AppendUvarint(dst, uint64(len(e.Key)))
		dst = append(dst, e.Key...)
	}
	if len(e.Headers) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(e.Headers)))
		for i := range e.Headers {
			dst = appendText(dst, e.Headers[i].Name)
			dst = appendText(dst, e.Headers[i].Value)
		}
	}
	return append(dst, e.Data...)
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// sizeOf is at least what appendEntry would add.
func sizeOf(e *transports.Entry) int {
	n := 9 + len(e.ID) + len(e.Route) + len(e.Key) + len(e.Data) + 4*binary.MaxVarintLen32
	for i := range e.Headers {
		n += len(e.Headers[i].Name) + len(e.Headers[i].Value) + 2*binary.MaxVarintLen32
	}
	return n
}

// checkEntry says why an entry can never be accepted.
func checkEntry(e *transports.Entry) error {
	if n := len(e.Headers); n > maxHeaders {
		return fmt.Errorf("entry %q has %d headers, more than the limit of %d", e.ID, n, maxHeaders)
	}
	if n := sizeOf(e); n > maxFrame {
		return fmt.Errorf("entry %q takes %d bytes, more than the limit of %d", e.ID, n, maxFrame)
	}
	return nil
}

// stored is an entry read back. Its byte slices point into what was parsed.
type stored struct {
	published int64 // ns since 1970
	id, route []byte
	key       []byte // nil where there is none
	headers   []byte // the encoded headers after their count
	nheaders  int
	data      []byte
}

// parseEntry reads what appendEntry wrote.
func parseEntry(raw []byte) (stored, error) {
	var s stored
	if len(raw) < 9 {
		return s, fmt.Errorf("%w: %d bytes", errEntry, len(raw))
	}
	head := raw[0]
	if head&^(flagKey|flagHeaders) != entryVersion {
		return s, fmt.Errorf("%w: first byte %#02x", errEntry, head)
	}
	s.published = int64(binary.LittleEndian.Uint64(raw[1:]))
	rest, ok := raw[9:], true
	if s.id, rest, ok = cutText(rest); !ok {
		return s, fmt.Errorf("%w: id cut off", errEntry)
	}
	if s.route, rest, ok = cutText(rest); !ok {
		return s, fmt.Errorf("%w: route cut off", errEntry)
	}
	if head&flagKey != 0 {
		if s.key, rest, ok = cutText(rest); !ok {
			return s, fmt.Errorf("%w: key cut off", errEntry)
		}
	}
	if head&flagHeaders != 0 {
		n, w := binary.Uvarint(rest)
		if w <= 0 || n == 0 || n > maxHeaders {
			return s, fmt.Errorf("%w: %d headers", errEntry, n)
		}
		s.nheaders, s.headers = int(n), rest[w:]
		for rest = s.headers; n > 0; n-- {
			if _, rest, ok = cutText(rest); !ok {
				return s, fmt.Errorf("%w: header cut off", errEntry)
			}
			if _, rest, ok = cutText(rest); !ok {
				return s, fmt.Errorf("%w: header cut off", errEntry)
			}
		}
		s.headers = s.headers[:len(s.headers)-len(rest)]
	}
	s.data = rest
	return s, nil
}

func cutText(b []byte) (text, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	end := w + int(n)
	return b[w:end:end], b[end:], true
}

// headerList decodes the headers.
func (s *stored) headerList() []transports.Header {
	if s.nheaders == 0 {
		return nil
	}
	list := make([]transports.Header, 0, s.nheaders)
	for rest := s.headers; len(rest) > 0; {
		var name, value []byte
		name, rest, _ = cutText(rest)
		value, rest, _ = cutText(rest)
		list = append(list, transports.Header{Name: string(name), Value: string(value)})
	}
	return list
}
