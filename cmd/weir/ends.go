package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/transports"
)

// end is a source or sink of the configuration that was made and is not open.
type end struct {
	path      string // in the configuration, such as sources.orders
	transport string
	made      any // a transports.Source or Sink
}

// ends are all sources and sinks, the dead letters' among them.
type ends []end

// makeEnds makes every source and sink without opening it: transports then
// say what is wrong with settings that do not go together.
func makeEnds(plan *config.Plan, ts []transports.Transport) (ends, []config.Mistake) {
	byName := map[string]transports.Transport{}
	for _, t := range ts {
		byName[t.Name()] = t
	}
	var all ends
	var mistakes []config.Mistake
	keep := func(path, transport string, made any, err error) {
		if err != nil {
			problem := strings.TrimPrefix(err.Error(), transport+": ")
			mistakes = append(mistakes, plan.Mistake(path+"."+transport, problem, ""))
			return
		}
		all = append(all, end{path, transport, made})
	}
	for _, s := range plan.Sources {
		made, err := byName[s.Transport].NewSource(endEnv(plan, s.Name), s.Settings)
		keep("sources."+s.Name, s.Transport, made, err)
	}
	for _, s := range plan.Sinks {
		made, err := byName[s.Transport].NewSink(endEnv(plan, s.Name), s.Settings)
		keep("sinks."+s.Name, s.Transport, made, err)
		if err != nil {
			continue
		}
		if _, err := s.CodecAt(made); err != nil {
			mistakes = append(mistakes, plan.Mistake("sinks."+s.Name+".codec", strings.TrimPrefix(err.Error(), "codec: "), ""))
		}
	}
	if d := plan.DeadLetters.Sink; d.Transport != "" {
		made, err := byName[d.Transport].NewSink(endEnv(plan, d.Name), d.Settings)
		keep(config.DeadLettersName, d.Transport, made, err)
	}
	return all, mistakes
}

// look warns of what a run would fail at as things are now. They may be otherwise
// when it comes to that, so it is no mistake of the configuration.
func (all ends) look(plan *config.Plan) []config.Mistake {
	var warnings []config.Mistake
	for _, e := range all {
		l, ok := e.made.(transports.Looker)
		if !ok {
			continue
		}
		if err := l.Look(); err != nil {
			warnings = append(warnings, plan.Mistake(e.path+"."+e.transport, withoutFatal(err), "a run would fail at this"))
		}
	}
	return warnings
}

// connectLimit is how long one attempt to reach a broker may take.
const connectLimit = 10 * time.Second

// connection is how the attempt to reach one end went.
type connection struct {
	End    string `json:"end"`
	OK     bool   `json:"ok"`
	Tried  bool   `json:"tried"` // false: the transport reaches over no network, or cannot be tried without taking events
	Millis int64  `json:"millis,omitempty"`
	Error  string `json:"error,omitempty"`
}

func (c connection) text() string {
	switch {
	case !c.Tried:
		return "nothing to try"
	case c.OK:
		return fmt.Sprintf("reached in %d ms", c.Millis)
	}
	return c.Error
}

// connect tries every end that can be tried, one after the other.
func (all ends) connect(ctx context.Context) []connection {
	list := []connection{}
	for _, e := range all {
		c := connection{End: e.path, OK: true}
		if p, ok := e.made.(transports.Prober); ok {
			begun := time.Now()
			limited, cancel := context.WithTimeout(ctx, connectLimit)
			err := p.Probe(limited)
			cancel()
			c.Tried, c.OK, c.Millis = true, err == nil, time.Since(begun).Milliseconds()
			if err != nil {
				c.Error = withoutFatal(err)
			}
		}
		list = append(list, c)
	}
	return list
}

// away is the error for ends that were not reached.
func away(list []connection) error {
	var names []string
	for _, c := range list {
		if !c.OK {
			names = append(names, c.End)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return errors.New("not reached: " + strings.Join(names, ", "))
}

// withoutFatal is an error's text without the word by which the engine knows that it
// need not try again, which tells its user nothing.
func withoutFatal(err error) string {
	return strings.TrimSuffix(strings.TrimSpace(err.Error()), ": "+transports.ErrFatal.Error())
}
