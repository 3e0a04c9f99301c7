// Package letters reads dead letters back, chooses among them, and counts them: what
// the engine, its API and the command line have to say to each other about them.
//
// A letter is about one (event, route, sink), or about an event that no route or no
// sink ever saw. What it holds stands in package flow, which writes it.
package letters

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-project/weir/transports"
)

// Type is the type of dead letters, which are CloudEvents.
const Type = "weir.dead_letter"

// Letter is a dead letter as it stands in its queue.
type Letter struct {
	Number uint64    `json:"number"` // in the queue; it names the letter there for ever
	Time   time.Time `json:"time"`   // when it was written
	ID     string    `json:"id"`     // of the event, the route, the sink and the reason
	Key    string    `json:"key,omitempty"`
	Data
}

// Data is what a letter says.
type Data struct {
	Reason         string          `json:"reason"` // a stable name
	Detail         string          `json:"detail"` // for people
	Source         string          `json:"source"`
	Partition      string          `json:"partition"`
	Ordinal        uint64          `json:"ordinal"`
	Sub            uint32          `json:"sub,omitempty"`
	EventID        string          `json:"event_id"`
	Generation     uint64          `json:"generation"`
	Route          string          `json:"route,omitempty"`
	Sink           string          `json:"sink,omitempty"`
	Attempts       int             `json:"attempts,omitempty"`
	Lineage        json.RawMessage `json:"lineage,omitempty"` // of a derived event
	Size           int64           `json:"size,omitempty"`    // of the event in bytes, where only the first ones are kept
	Original       *string         `json:"original,omitempty"`
	OriginalBase64 []byte          `json:"original_base64,omitempty"`
	Rendered       *string         `json:"rendered,omitempty"`
	RenderedBase64 []byte          `json:"rendered_base64,omitempty"`
}

// Parse reads an entry of the queue of dead letters.
func Parse(d *transports.Delivery) (*Letter, error) {
	var e struct {
		ID   string
		Type string
		Time time.Time
		Data Data
	}
	if err := json.Unmarshal(d.Data, &e); err != nil {
		return nil, fmt.Errorf("entry %d is no dead letter: %w", d.Ordinal, err)
	}
	if e.Type != Type {
		return nil, fmt.Errorf("entry %d is no dead letter: its type is %q", d.Ordinal, e.Type)
	}
	return &Letter{Number: d.Ordinal, Time: e.Time, ID: e.ID, Key: string(d.Key), Data: e.Data}, nil
}

// Event is the event as it came.
func (d *Data) Event() []byte { return bytesOf(d.Original, d.OriginalBase64) }

// Sent is what was sent to the sink, nil where nothing ever was.
func (d *Data) Sent() []byte {
	if d.Rendered == nil && d.RenderedBase64 == nil {
		return nil
	}
	return bytesOf(d.Rendered, d.RenderedBase64)
}

func bytesOf(text *string, raw []byte) []byte {
	if text != nil {
		return []byte(*text)
	}
	return raw
}

// Filter chooses letters. Empty fields choose everything; the others must all hold.
type Filter struct {
	Reason  string    `json:"reason,omitempty"`
	Route   string    `json:"route,omitempty"`
	Sink    string    `json:"sink,omitempty"`
	Source  string    `json:"source,omitempty"`
	Key     string    `json:"key,omitempty"`
	ID      string    `json:"id,omitempty"` // of the event, or of the letter
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`    // not included
	Numbers []uint64  `json:"numbers,omitempty"` // only these
	From    uint64    `json:"from,omitempty"`    // numbers below are passed over
	End     uint64    `json:"end,omitempty"`     // numbers from here on are; 0 = none
}

// maxNumbers bounds a list of numbers.
const maxNumbers = 10_000

// Validate says what is wrong with a filter.
func (f *Filter) Validate() error {
	var errs []error
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		errs = append(errs, fmt.Errorf("the range from %s until %s is empty", f.Since.Format(time.RFC3339), f.Until.Format(time.RFC3339)))
	}
	if len(f.Numbers) > maxNumbers {
		errs = append(errs, fmt.Errorf("%d numbers, at most %d are taken", len(f.Numbers), maxNumbers))
	}
	return errors.Join(errs...)
}

// Takes says whether a letter is chosen.
func (f *Filter) Takes(l *Letter) bool {
	for _, x := range [...]struct{ want, is string }{
		{f.Reason, l.Reason},
		{f.Route, l.Route},
		{f.Sink, l.Sink},
		{f.Source, l.Source},
		{f.Key, l.Key},
	} {
		if x.want != "" && x.want != x.is {
			return false
		}
	}
	if f.ID != "" && f.ID != l.EventID && f.ID != l.ID {
		return false
	}
	if !f.Since.IsZero() && l.Time.Before(f.Since) || !f.Until.IsZero() && !l.Time.Before(f.Until) {
		return false
	}
	if l.Number < f.From || f.End > 0 && l.Number >= f.End {
		return false
	}
	if len(f.Numbers) == 0 {
		return true
	}
	for _, n := range f.Numbers {
		if n == l.Number {
			return true
		}
	}
	return false
}

// Way is how a letter is redriven.
type Way string

// Ways of redriving.
const (
	ToSink  Way = "sink"   // its bytes go to its sink, and nowhere else
	Reenter Way = "source" // the event comes in once more, as from its source
)

// Way is how this letter is redriven: bytes that a sink did not take go to that sink;
// what failed earlier comes in once more, for its route and sink if it has them.
func (l *Letter) Way() Way {
	if l.Sink != "" && l.Sent() != nil {
		return ToSink
	}
	return Reenter
}

// Cut says why the event cannot come in once more, nil where it can: bytes that are
// not there cannot be read again.
func (l *Letter) Cut() error {
	if l.Size == 0 {
		return nil
	}
	return fmt.Errorf("only the first %d of its %d bytes are kept: send it anew from where it came from", len(l.Event()), l.Size)
}

// Counts are letters counted.
type Counts struct {
	Letters  int            `json:"letters"`
	ByReason map[string]int `json:"by_reason"`
	ByWay    map[string]int `json:"by_way"` // "to sink kitchen", "as from source orders"
	Bytes    int64          `json:"bytes"`
	First    time.Time      `json:"first,omitzero"`
	Last     time.Time      `json:"last,omitzero"`
	End      uint64         `json:"end"` // after the last number
}

// NewCounts counts nothing yet.
func NewCounts() *Counts { return &Counts{ByReason: map[string]int{}, ByWay: map[string]int{}} }

// Add counts a letter.
func (c *Counts) Add(l *Letter) {
	c.Letters++
	c.ByReason[l.Reason]++
	if l.Way() == ToSink {
		c.ByWay["to sink "+l.Sink]++
	} else {
		c.ByWay["as from source "+l.Source]++
	}
	c.Bytes += int64(len(l.Event()) + len(l.Sent()))
	if c.First.IsZero() || l.Time.Before(c.First) {
		c.First = l.Time
	}
	if l.Time.After(c.Last) {
		c.Last = l.Time
	}
	c.End = max(c.End, l.Number+1)
}

// Order is what is to be done with letters.
type Order struct {
	Filter Filter `json:"filter"`
	Drop   bool   `json:"drop,omitempty"`  // throw them away instead of redriving them
	Count  bool   `json:"count,omitempty"` // do nothing but count them
	Limit  int    `json:"limit,omitempty"` // letters at most, 0 = all
	Rate   int    `json:"rate,omitempty"`  // letters a second at most, 0 = as fast as it goes
}

// MaxRate bounds Order.Rate.
const MaxRate = 1_000_000

// Validate says what is wrong with an order.
func (o *Order) Validate() error {
	errs := []error{o.Filter.Validate()}
	if o.Limit < 0 {
		errs = append(errs, fmt.Errorf("limit %d is negative", o.Limit))
	}
	if o.Rate < 0 || o.Rate > MaxRate {
		errs = append(errs, fmt.Errorf("rate %d is not between 0 and %d", o.Rate, MaxRate))
	}
	return errors.Join(errs...)
}

// Result is what was done.
type Result struct {
	Counts         // of the letters that were chosen
	Done   int     `json:"done"` // redriven or dropped, durably
	Kept   int     `json:"kept"` // those that could not be
	Why    []Kept  `json:"why"`  // the first of those
	More   bool    `json:"more"` // Limit was reached: go on with Filter.From = Next
	Next   uint64  `json:"next"`
	Second float64 `json:"seconds"`
}

// Kept is a letter that could not be redriven, and stays.
type Kept struct {
	Number uint64 `json:"number"`
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// maxKept is how many a result lists.
const maxKept = 20

// Keep notes a letter that stays.
func (r *Result) Keep(l *Letter, why error) {
	r.Kept++
	if len(r.Why) < maxKept {
		r.Why = append(r.Why, Kept{l.Number, l.ID, why.Error()})
	}
}

// NotHere says that there is nothing to look into: dead letters are off, or go to a
// sink that does not keep them.
type NotHere struct{ Where string }

func (e *NotHere) Error() string {
	if e.Where == "" {
		return "there are no dead letters: the configuration says dead_letters: false"
	}
	return fmt.Sprintf("dead letters go to %s, which is no local queue: look at them there; to send one again, put its original into a source", e.Where)
}

// Where names where the dead letters of a configuration go, for NotHere.
func Where(transport string, settings transports.Settings) string {
	if transport == "" {
		return ""
	}
	for _, name := range []string{"topic", "path", "url"} {
		if v := settings.String(name); v != "" {
			return strings.TrimSpace(transport + " " + name + " " + v)
		}
	}
	return "the transport " + transport
}
