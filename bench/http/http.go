// Package http measures how many events a second come in by HTTP: batches of 100
// CloudEvents, each answered after its commit, with dedup, a pattern, a file sink and
// the journal on. The yardstick is a net/http handler that reads each body, checks
// that it is JSON, and answers, with nothing kept. Both are processes of their own;
// the client is the same, and lean, so that it leaves the cores to them.
package http

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weir-project/weir/bench/report"
	"github.com/weir-project/weir/bench/workload"
)

// Hidden is the argument that makes the bench program be the yardstick's server.
const Hidden = "__http-yardstick"

const (
	barBatches   = 0.3 // of the yardstick's events a second
	eventsABatch = 100
	connections  = 64
	path         = "/events"
	readyLimit   = 30 * time.Second
	stopLimit    = 60 * time.Second
	maxBody      = 8 << 20
)

// Yardstick serves on the address that args name until it is killed.
func Yardstick(args []string) error {
	if len(args) != 1 {
		return errors.New("http yardstick: want an address")
	}
	handler := func(w nethttp.ResponseWriter, r *nethttp.Request) {
		body, err := io.ReadAll(nethttp.MaxBytesReader(w, r.Body, maxBody))
		if err != nil || !json.Valid(body) {
			w.WriteHeader(nethttp.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(`{"accepted":100}`)) // the client may have gone
	}
	return nethttp.ListenAndServe(args[0], nethttp.HandlerFunc(handler)) //nolint:gosec // a yardstick without limits is the faster one
}

// Run measures.
func Run(o report.Options) (lines []report.Line, err error) {
	place, err := os.MkdirTemp(o.Dir, "http-")
	if err != nil {
		return nil, fmt.Errorf("bench http: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(place)) }()
	weir := filepath.Join(place, "weir")
	o.Printf("http: building weir")
	build := exec.Command("go", "build", "-o", weir, "./cmd/weir")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("bench http: build weir: %w\n%s", err, b)
	}
	batches := 3000
	if o.Quick {
		batches = 600
	}
	requests, all := makeRequests(o.Seed, batches)
	anchor := report.AnchorLine(all)
	anchor.Note = fmt.Sprintf("%d batches of %d events, %d bytes each", batches, eventsABatch, len(all)/batches)
	lines = append(lines, anchor)
	if !o.Wants("batches") {
		return lines, nil
	}
	r := run{weir: weir, place: place, requests: requests, events: batches * eventsABatch}
	measure := func(name string, once func() (float64, error)) func() (float64, error) {
		return func() (float64, error) {
			rate, err := once()
			if err == nil {
				o.Printf("http: %s %.0f events/s", name, rate)
			}
			return rate, err
		}
	}
	p, err := report.Interleave(o.Pairs(), measure("weir", r.ofWeir), measure("yardstick", r.ofYardstick))
	if err != nil {
		return lines, err
	}
	return append(lines, report.Line{
		Name: "batches", Figure: p.A, Unit: "events/s", Yardstick: p.B, Ratio: p.Ratio, Of: report.Ratio, Bar: barBatches, AtLeast: true,
		Note: fmt.Sprintf("answered after the commit, %d connections; %s", connections, p.Spread()),
	}), nil
}

// makeRequests makes whole requests, header and body, and returns the bodies' bytes as well.
func makeRequests(seed uint64, n int) (requests [][]byte, all []byte) {
	g := workload.New(seed)
	for range n {
		body := []byte{'['}
		for i := range eventsABatch {
			if i > 0 {
				body = append(body, ',')
			}
			e, _ := g.Next()
			body = append(body, e...)
		}
		body = append(body, ']')
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: %d\r\n\r\n", path, len(body))
		requests = append(requests, append([]byte(head), body...))
		all = append(all, body...)
	}
	return requests, all
}

type run struct {
	weir, place string
	requests    [][]byte
	events      int
}

// ofWeir is the rate of weir on a fresh data folder.
func (r run) ofWeir() (rate float64, err error) {
	dir, err := os.MkdirTemp(r.place, "run-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	address, err := freeAddress()
	if err != nil {
		return 0, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "version: 1\nnode: {data: %q, log: {level: warn}}\n", filepath.Join(dir, "data"))
	fmt.Fprintf(&b, "sources:\n  events: {http: {listen: %q, path: %s}, codec: cloudevents, dedup: {window: 1h}}\n", address, path)
	fmt.Fprintf(&b, "routes:\n  wanted:\n    when: {type: [%s], data: {service_info: [%s]}}\n    to: [out]\n", strings.Join(workload.Wanted.Types, ", "), workload.Wanted.Service)
	fmt.Fprintf(&b, "sinks:\n  out: {file: {path: %q}}\n", filepath.Join(dir, "out.ndjson"))
	file := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		return 0, err
	}
	args := []string{"run", "-c", file}
	if profile := os.Getenv("WEIR_BENCH_PROFILE"); profile != "" {
		args = append(args, "--cpuprofile", profile)
	}
	rate, err = r.against(exec.Command(r.weir, args...), address, true)
	if err != nil {
		return 0, err
	}
	if out, err := os.Stat(filepath.Join(dir, "out.ndjson")); err != nil || out.Size() == 0 {
		return 0, fmt.Errorf("bench http: weir wrote nothing: %w", err)
	}
	return rate, nil
}

func (r run) ofYardstick() (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	address, err := freeAddress()
	if err != nil {
		return 0, err
	}
	return r.against(exec.Command(self, Hidden, address), address, false)
}

// against starts a server, sends all requests to it and stops it; drains says that it
// ends well when it is asked to.
func (r run) against(cmd *exec.Cmd, address string, drains bool) (rate float64, err error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("bench http: %w", err)
	}
	defer func() {
		if stopErr := stop(cmd); drains {
			err = errors.Join(err, stopErr)
		}
		if err != nil {
			err = fmt.Errorf("bench http: %s: %w\n%s", filepath.Base(cmd.Path), err, said.Bytes())
		}
	}()
	if err := ready(address); err != nil {
		return 0, err
	}
	var next atomic.Int64
	errs := make([]error, connections)
	var wait sync.WaitGroup
	start := time.Now()
	for i := range errs {
		wait.Go(func() { errs[i] = r.send(address, &next) })
	}
	wait.Wait()
	took := time.Since(start)
	return float64(r.events) / took.Seconds(), errors.Join(errs...)
}

// send is one connection: the next request whenever the last was answered.
func (r run) send(address string, next *atomic.Int64) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	for {
		i := int(next.Add(1)) - 1
		if i >= len(r.requests) {
			return nil
		}
		if _, err := c.Write(r.requests[i]); err != nil {
			return err
		}
		if err := readAnswer(answers); err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
	}
}

// readAnswer wants 200 and all events accepted.
func readAnswer(r *bufio.Reader) error {
	status, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "\r\n" {
			break
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "content-length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return err
			}
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200") || !bytes.HasPrefix(body, []byte(`{"accepted":100}`)) {
		return fmt.Errorf("answer %q %s", status, body)
	}
	return nil
}

func ready(address string) error {
	for deadline := time.Now().Add(readyLimit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("nobody listens on %s after %v", address, readyLimit)
}

func stop(cmd *exec.Cmd) error {
	err := cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(stopLimit, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	return errors.Join(err, cmd.Wait())
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
