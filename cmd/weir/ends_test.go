package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weir-project/weir/transports"
)

// distant is a transport whose other side is a broker that is there or away.
type distant struct{ away error }

func (distant) Name() string { return "distant" }

func (distant) Options() (source, sink []transports.Option) {
	return []transports.Option{}, []transports.Option{}
}

func (d distant) NewSource(transports.Env, transports.Settings) (transports.Source, error) {
	return probed{away: d.away}, nil
}

func (d distant) NewSink(transports.Env, transports.Settings) (transports.Sink, error) {
	return nil, errors.New("not used")
}

// probed can be tried and nothing else.
type probed struct {
	transports.Source
	away error
}

func (p probed) Probe(context.Context) error { return p.away }

func TestCheckConnects(t *testing.T) {
	folder(t, map[string]string{"weir.yaml": "version: 1\nsources: {far: {distant: {}}}\nroutes: {r: {to: [near]}}\nsinks: {near: {local: {queue: near}}}\n"})
	for _, test := range []struct {
		away error
		args []string
		code int
		want string
	}{
		{nil, []string{"check", "--connect"}, 0, "connect   sources.far: reached in"},
		{errors.New("connection refused"), []string{"check"}, 0, "fine"},
		{errors.New("connection refused"), []string{"check", "--connect"}, 3, "connect   sources.far: connection refused"},
		{errors.New("connection refused"), []string{"check", "--connect"}, 3, "weir: not reached: sources.far"},
		{nil, []string{"check", "--connect"}, 0, "connect   sinks.near: nothing to try"},
	} {
		got := weirWith(func(p *program) { p.transports = append(p.transports, distant{test.away}) }, "", test.args...)
		if got.code != test.code || !strings.Contains(got.out+got.diag, test.want) {
			t.Errorf("%v exits with %d:\n%s%s\nwant %d and %q", test.args, got.code, got.out, got.diag, test.code, test.want)
		}
	}
}
