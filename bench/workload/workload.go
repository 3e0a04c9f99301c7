// Package workload makes the events that benchmarks and tests run on: a fleet's
// CloudEvents of about 352 bytes, 80 of 100 driver locations and 20 orders, 5 of
// 100 exact repeats of one of the last thousand. The same seed gives the same
// bytes.
package workload

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Shares of the events, in percent, and how far back a repeat lies at most.
const (
	orderShare  = 20
	repeatShare = 5
	lookBack    = 1000
)

// What order events say.
var (
	OrderTypes = []string{"OrderCreated", "OrderAccepted", "OrderPickedUp", "OrderDelivered", "OrderCancelled"}
	Services   = []string{"delivery", "pickup", "self_delivery", "dine_in"}
)

// Wanted is the selection that pipelines make: what it takes stands in about 2
// of 100 events.
var Wanted = struct {
	Types   []string
	Service string
}{Types: []string{"OrderCreated", "OrderAccepted"}, Service: "delivery"}

// Generator makes events one by one.
type Generator struct {
	r      *rand.Rand
	past   [lookBack][]byte
	number int
	start  time.Time
}

// New makes a generator.
func New(seed uint64) *Generator {
	return &Generator{r: rand.New(rand.NewPCG(seed, 352)), start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// Next returns an event as one line of JSON without its line end, and whether
// it repeats an earlier one. The bytes are good until the thousandth next call.
func (g *Generator) Next() (event []byte, repeat bool) {
	if g.number > 0 && g.r.IntN(100) < repeatShare {
		back := g.r.IntN(min(g.number, lookBack))
		return g.past[(g.number-1-back)%lookBack], true
	}
	slot := &g.past[g.number%lookBack]
	if g.r.IntN(100) < orderShare {
		*slot = g.order((*slot)[:0])
	} else {
		*slot = g.location((*slot)[:0])
	}
	g.number++
	return *slot, false
}

func (g *Generator) location(b []byte) []byte {
	driver := g.r.IntN(20_000)
	b = g.envelope(b, "/fleet/drivers/", driver, "DriverLocationUpdated")
	b = append(b, `{"driver_id":"d-`...)
	b = strconv.AppendInt(b, int64(driver), 10)
	b = append(b, `","lat":`...)
	b = strconv.AppendFloat(b, 52.3+g.r.Float64()/2, 'f', 6, 64)
	b = append(b, `,"lng":`...)
	b = strconv.AppendFloat(b, 13.1+g.r.Float64()/2, 'f', 6, 64)
	b = append(b, `,"speed":`...)
	b = strconv.AppendFloat(b, g.r.Float64()*60, 'f', 1, 64)
	b = append(b, `,"heading":`...)
	b = strconv.AppendInt(b, int64(g.r.IntN(360)), 10)
	b = append(b, `,"service_info":"`...)
	b = append(b, Services[g.r.IntN(len(Services))]...)
	b = append(b, `","vehicle":"bike-`...)
	b = strconv.AppendInt(b, int64(g.r.IntN(1000)), 10)
	b = append(b, `","battery":`...)
	b = strconv.AppendInt(b, int64(g.r.IntN(101)), 10)
	return append(b, `}}`...)
}

func (g *Generator) order(b []byte) []byte {
	b = g.envelope(b, "/shop/orders/", g.r.IntN(500), OrderTypes[g.r.IntN(len(OrderTypes))])
	b = append(b, `{"order_id":"o-`...)
	b = strconv.AppendInt(b, int64(g.r.IntN(1_000_000)), 10)
	b = append(b, `","service_info":"`...)
	b = append(b, Services[g.r.IntN(len(Services))]...)
	b = append(b, `","total_cents":`...)
	b = strconv.AppendInt(b, int64(g.r.IntN(20_000)), 10)
	b = append(b, `,"items":[{"sku":"s-`...)
	b = strconv.AppendInt(b, int64(g.r.IntN(10_000)), 10)
	b = append(b, `","count":`...)
	b = strconv.AppendInt(b, int64(1+g.r.IntN(5)), 10)
	b = append(b, `}],"customer":{"id":"c-`...)
	b = strconv.AppendInt(b, int64(g.r.IntN(1_000_000)), 10)
	b = append(b, `","name":"Zoë \"Z\" Weiß"}`...)
	return append(b, `}}`...)
}

// envelope appends the attributes, up to the value of data.
func (g *Generator) envelope(b []byte, source string, number int, kind string) []byte {
	b = append(b, `{"specversion":"1.0","id":"`...)
	b = g.uuid(b)
	b = append(b, `","source":"`...)
	b = append(b, source...)
	b = strconv.AppendInt(b, int64(number), 10)
	b = append(b, `","type":"`...)
	b = append(b, kind...)
	b = append(b, `","time":"`...)
	b = g.start.Add(time.Duration(g.number)*time.Millisecond).AppendFormat(b, "2006-01-02T15:04:05.000Z")
	return append(b, `","datacontenttype":"application/json","data":`...)
}

func (g *Generator) uuid(b []byte) []byte {
	const digits = "0123456789abcdef"
	x := [2]uint64{g.r.Uint64(), g.r.Uint64()}
	for i := range 32 {
		switch i {
		case 8, 12, 16, 20:
			b = append(b, '-')
		}
		b = append(b, digits[x[i/16]&15])
		x[i/16] >>= 4
	}
	return b
}

// Write writes n events as lines to w.
func Write(w io.Writer, seed uint64, n int) error {
	bw := bufio.NewWriterSize(w, 1<<20)
	g := New(seed)
	for range n {
		e, _ := g.Next()
		if _, err := bw.Write(e); err != nil {
			return err
		}
		if err := bw.WriteByte('\n'); err != nil {
			return err
		}
	}
	return bw.Flush()
}

// File returns a file of n events below dir, which is made where it is not
// there yet.
func File(dir string, seed uint64, n int) (name string, err error) {
	name = filepath.Join(dir, fmt.Sprintf("events-%d-%d-%s.ndjson", seed, n, generation))
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	f, err := os.CreateTemp(dir, "events-*.part")
	if err != nil {
		return "", fmt.Errorf("workload: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(Write(f, seed, n), f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("workload: write %s: %w", f.Name(), err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return "", fmt.Errorf("workload: %w", err)
	}
	return name, nil
}

// generation changes with the bytes that a seed gives, so that no file of an
// older generator is taken for a new one.
const generation = "1"
