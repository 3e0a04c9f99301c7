package reload

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/weir-project/weir/transports"
)

// endless is a source that always has events, as many as the engine takes, until it is
// ended. It notes how long each chunk took from the moment it was handed out to the
// moment it was settled, which comes after it is durable.
type endless struct {
	mu      sync.Mutex // guards what follows
	next    uint64     // event
	ended   bool
	handed  []handed // in order, not settled
	delays  []time.Duration
	settled uint64
}

type handed struct {
	end uint64
	at  time.Time
}

// One event in picked goes to the sinks; chunkEvents of them make a chunk.
const (
	picked      = 16
	chunkEvents = 600
	idDigits    = 12
)

// template is a chunk with its ids to be filled in.
var template, idsAt = func() ([]byte, []int) {
	var b []byte
	var at []int
	for i := range chunkEvents {
		b = append(b, `{"specversion":"1.0","id":"`...)
		at = append(at, len(b))
		b = append(b, "000000000000"...)
		b = fmt.Appendf(b, `","source":"/shop/orders","type":"OrderCreated","time":"2026-01-01T00:00:00Z","subject":"order","data":{"order_id":%d,"pick":%v,"service_info":"delivery","customer":{"name":"Grace Hopper","city":"Arlington","vip":false},"total":129.95,"items":[{"sku":"A-1021","count":2},{"sku":"B-77","count":1}]}}`+"\n", i, i%picked == 0)
	}
	return b, at
}()

func (*endless) Name() string { return "endless" }

func (*endless) Options() (source, sink []transports.Option) { return []transports.Option{}, nil }

func (e *endless) NewSource(transports.Env, transports.Settings) (transports.Source, error) {
	return e, nil
}

func (*endless) NewSink(transports.Env, transports.Settings) (transports.Sink, error) {
	return nil, fmt.Errorf("endless has no sinks")
}

// end lets the source end; what it gave is still settled.
func (e *endless) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
}

// given is how many events there were.
func (e *endless) given() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next
}

// quantile is of the delays of all chunks.
func (e *endless) quantile(q float64) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	slices.Sort(e.delays)
	return e.delays[int(q*float64(len(e.delays)-1))]
}

func (*endless) Capabilities() transports.Capabilities {
	return transports.Capabilities{Order: transports.OrderPartition, Finite: true, Lossy: true}
}

func (*endless) Open(context.Context, map[string]transports.Position, transports.Listener) error {
	return nil
}

func (*endless) Receive(context.Context, int, time.Duration) ([]transports.Delivery, error) {
	return nil, fmt.Errorf("endless gives chunks")
}

// ReceiveChunk implements transports.ChunkSource.
func (e *endless) ReceiveChunk(_ context.Context, c *transports.Chunk, _ time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return io.EOF
	}
	c.Data = append(c.Data, template...)
	for i, at := range idsAt {
		n := e.next + uint64(i)
		for d := idDigits - 1; d >= 0; d-- {
			c.Data[at+d] = byte('0' + n%10)
			n /= 10
		}
	}
	// Ordinals are offsets: every chunk has the same length.
	c.Ordinal = e.next / chunkEvents * uint64(len(template))
	c.Start = binary.BigEndian.AppendUint64(nil, e.next)
	e.next += chunkEvents
	c.End = binary.BigEndian.AppendUint64(nil, e.next)
	e.handed = append(e.handed, handed{e.next, time.Now()})
	return nil
}

func (e *endless) Settle(_ context.Context, settlements []transports.Settlement) []error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for _, s := range settlements {
		through := binary.BigEndian.Uint64(s.Through)
		n := 0
		for n < len(e.handed) && e.handed[n].end <= through {
			e.delays = append(e.delays, now.Sub(e.handed[n].at))
			n++
		}
		e.handed = e.handed[n:]
		e.settled = max(e.settled, through)
	}
	return make([]error, len(settlements))
}

func (*endless) Close(context.Context) error { return nil }
