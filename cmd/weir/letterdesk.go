package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine"
	"github.com/weir-project/weir/engine/admin"
	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/letters"
	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports/local"
)

// letterDesk is where dead letters are looked at and orders about them are given: a
// running instance, or the data folder where none runs.
type letterDesk interface {
	// each visits letters, at most limit of them (0 = all).
	each(ctx context.Context, filter *letters.Filter, limit int, visit func(*letters.Letter) error) error
	// carry counts.
	carry(ctx context.Context, o letters.Order) (letters.Result, error)
	// do carries an order out and says how many deliveries still wait for their sinks
	// after so long a time.
	do(ctx context.Context, o letters.Order, wait time.Duration) (letters.Result, int, error)
	close() error
}

// letterDesk finds the running instance, or the folder.
func (p *program) letterDesk(ctx context.Context, cmd *cobra.Command, f *instanceFlags) (letterDesk, error) {
	if f.url != "" {
		c, err := p.connectURL(f)
		return &deskOf{c}, err
	}
	plan, err := p.load(cmd)
	if err != nil {
		return nil, err
	}
	if f.data != "" {
		plan.Node.Data = f.data
	}
	probe, err := admin.DialSocket(ctx, plan.Node.Data)
	switch {
	case err == nil:
		_ = probe.Close() // nothing was sent
		at := *f
		at.data = plan.Node.Data
		c, err := p.connect(cmd, &at)
		return &deskOf{c}, err
	case errors.Is(err, admin.ErrNotRunning):
		return newFolderDesk(p, plan)
	}
	return nil, err
}

// deskOf asks a running instance.
type deskOf struct{ client *client }

func (d *deskOf) each(ctx context.Context, filter *letters.Filter, limit int, visit func(*letters.Letter) error) error {
	return d.client.lines(ctx, admin.LettersPath, admin.LetterQuery(filter, limit), func(line []byte) error {
		var l letters.Letter
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("the answer cannot be read: %w", err)
		}
		return visit(&l)
	})
}

func (d *deskOf) carry(ctx context.Context, o letters.Order) (r letters.Result, err error) {
	err = d.client.post(ctx, admin.LettersPath, nil, o, &r)
	return r, err
}

// do asks for a part at a time.
func (d *deskOf) do(ctx context.Context, o letters.Order, _ time.Duration) (letters.Result, int, error) {
	all := letters.Result{Counts: *letters.NewCounts(), Why: []letters.Kept{}}
	for left := o.Limit; ; {
		r, err := d.carry(ctx, o)
		if err != nil {
			return all, 0, err
		}
		join(&all, &r)
		if left > 0 {
			if left -= r.Letters; left <= 0 {
				return all, 0, nil
			}
			o.Limit = left
		}
		if !r.More || r.Letters == 0 {
			return all, 0, nil
		}
		o.Filter.From = r.Next
	}
}

// join adds up results.
func join(all, r *letters.Result) {
	all.Letters, all.Bytes = all.Letters+r.Letters, all.Bytes+r.Bytes
	all.Done, all.Kept, all.Second = all.Done+r.Done, all.Kept+r.Kept, all.Second+r.Second
	all.Why = append(all.Why, r.Why...)
	for name, n := range r.ByReason {
		all.ByReason[name] += n
	}
	for name, n := range r.ByWay {
		all.ByWay[name] += n
	}
	if all.First.IsZero() {
		all.First = r.First
	}
	all.Last, all.End, all.Next, all.More = r.Last, r.End, r.Next, r.More
}

func (d *deskOf) close() error {
	d.client.Close()
	return nil
}

// folderDesk works on the data folder of an instance that does not run.
type folderDesk struct {
	p     *program
	plan  *config.Plan
	queue *local.Queue // nil = there is none yet
}

func newFolderDesk(p *program, plan *config.Plan) (*folderDesk, error) {
	s := plan.DeadLetters.Sink
	name := s.Settings.String("queue")
	if s.Transport != "local" || name == "" {
		return nil, wrongInput{&letters.NotHere{Where: letters.Where(s.Transport, s.Settings)}}
	}
	c := local.QueueConfig{FS: vfs.OS{}, Data: plan.Node.Data, Kind: local.QueueKind, Name: name, Max: s.Settings.Int("max")}
	d := &folderDesk{p: p, plan: plan}
	if err := mustExist(c); err != nil {
		return d, nil // nothing has died yet
	}
	var err error
	d.queue, err = local.OpenQueueWith(c)
	return d, err
}

func (d *folderDesk) each(ctx context.Context, filter *letters.Filter, limit int, visit func(*letters.Letter) error) error {
	if d.queue == nil {
		return nil
	}
	count := 0
	return flow.Letters(d.queue, filter, func(l *letters.Letter) (bool, error) {
		count++
		return limit == 0 || count < limit, errors.Join(ctx.Err(), visit(l))
	})
}

func (d *folderDesk) carry(ctx context.Context, o letters.Order) (r letters.Result, err error) {
	r = letters.Result{Counts: *letters.NewCounts(), Why: []letters.Kept{}}
	err = d.each(ctx, &o.Filter, o.Limit, func(l *letters.Letter) error {
		r.Add(l)
		return nil
	})
	return r, err
}

// do starts the engine for the order alone; its sources are not asked.
func (d *folderDesk) do(ctx context.Context, o letters.Order, wait time.Duration) (r letters.Result, parked int, err error) {
	if err := d.close(); err != nil { // the engine locks the folder itself
		return r, 0, err
	}
	eng, err := engine.New(engine.Config{
		Plan: d.plan, Transports: d.p.transports, Plugins: d.p.hosts, Log: newLog(d.p.diag, d.plan.Node.Log), DrainLimit: wait,
	})
	if err != nil {
		return r, 0, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer d.p.untilSignal(stop)()
	err = eng.Do(ctx, func(ctx context.Context) error {
		var err error
		r, err = eng.CarryLetters(ctx, &o)
		waitParked(ctx, eng, wait)
		return err
	})
	return r, parkedNow(eng), err
}

// lookAtParked is how often a redrive looks whether all is delivered.
const lookAtParked = 20 * time.Millisecond

func waitParked(ctx context.Context, eng *engine.Engine, wait time.Duration) {
	for end := time.Now().Add(wait); parkedNow(eng) > 0 && time.Now().Before(end); {
		select {
		case <-time.After(lookAtParked):
		case <-ctx.Done():
			return
		}
	}
}

func parkedNow(eng *engine.Engine) (n int) {
	for s := range maps.Values(eng.Status().Sinks) {
		n += s.Parked
	}
	return n
}

func (d *folderDesk) close() error {
	q := d.queue
	d.queue = nil
	if q == nil {
		return nil
	}
	return q.Close()
}
