package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
	"github.com/weir-project/weir/transports/local"
)

// Limits of the queue commands.
const (
	maxLine     = 256 << 20 // bytes of one line to send
	sendEntries = 1000      // entries that one sync makes durable
	sendBytes   = 4 << 20   // bytes likewise
	takeEntries = 256       // entries received and acked together
	maxInJSON   = 10_000    // entries that --json holds in memory
)

// queueFlags are what all queue commands share.
type queueFlags struct {
	data  string
	topic bool
}

func (p *program) queueCommand() *cobra.Command {
	var f queueFlags
	cmd := &cobra.Command{Use: "queue", Short: "Use local queues and topics by hand", RunE: needsCommand}
	cmd.PersistentFlags().StringVar(&f.data, "data", "", "the data folder (default: the configuration's)")
	cmd.AddCommand(p.sendCommand(&f), p.receiveCommand(&f), p.listCommand(&f))
	return cmd
}

// place finds the data folder, and a queue's settings where the configuration has them.
func (p *program) place(cmd *cobra.Command, f *queueFlags, name string) (local.QueueConfig, error) {
	c := local.QueueConfig{FS: vfs.OS{}, Data: f.data, Kind: local.QueueKind, Name: name}
	setting := "queue"
	if f.topic {
		c.Kind, setting = local.TopicKind, "topic"
	}
	if f.data != "" {
		return c, nil
	}
	plan, err := p.load(cmd)
	if err != nil {
		return c, err
	}
	c.Data = plan.Node.Data
	for _, s := range append(slices.Clone(plan.Sinks), plan.DeadLetters.Sink) {
		if s.Transport == "local" && s.Settings.String(setting) == name {
			c.Max, c.Keep = s.Settings.Int("max"), s.Settings.Duration("keep")
		}
	}
	return c, nil
}

func (p *program) sendCommand(f *queueFlags) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "send NAME [FILE|-]",
		Short: "Send lines of JSON to a queue or topic",
		Args:  cobra.RangeArgs(1, 2),

		ValidArgsFunction: p.queuesOr(cobra.ShellCompDirectiveDefault, f),
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, args []string) (answer, error) {
			in, name := p.in, "standard input"
			if len(args) == 2 && args[1] != "-" {
				file, err := os.Open(args[1])
				if err != nil {
					return answer{}, wrongInput{err}
				}
				defer file.Close()
				in, name = file, args[1]
			}
			c, err := p.place(cmd, f, args[0])
			if err != nil {
				return answer{}, err
			}
			return send(ctx, c, in, name, raw)
		}),
	}
	cmd.Flags().BoolVar(&f.topic, "topic", false, "NAME is a topic")
	cmd.Flags().BoolVar(&raw, "raw", false, "send lines as they are, JSON or not")
	return cmd
}

// sent is what send did.
type sent struct {
	Queue string `json:"queue"`
	Sent  int    `json:"sent"`
}

func send(ctx context.Context, c local.QueueConfig, in io.Reader, name string, raw bool) (a answer, err error) {
	q, err := local.OpenQueueWith(c)
	if err != nil {
		return answer{}, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	r := sent{Queue: c.Name}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	var batch []transports.Entry
	size, number := 0, 0
	flush := func() error {
		if err := q.Send(ctx, batch...); err != nil {
			return err
		}
		r.Sent += len(batch)
		batch, size = batch[:0], 0
		return nil
	}
	var stopped error
	for lines.Scan() {
		number++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if !raw && !json.Valid(line) {
			stopped = wrongInput{fmt.Errorf("%s:%d: not JSON (--raw sends it all the same)", name, number)}
			break
		}
		batch = append(batch, transports.Entry{Data: bytes.Clone(line)})
		if size += len(line); len(batch) == sendEntries || size >= sendBytes {
			if err := flush(); err != nil {
				return r.answer(), err
			}
		}
	}
	if err := flush(); err != nil {
		return r.answer(), err
	}
	if err := lines.Err(); err != nil {
		stopped = fmt.Errorf("%s:%d: %w", name, number+1, err)
	}
	return r.answer(), stopped
}

func (r sent) answer() answer {
	return answer{result: r, text: func(w io.Writer) { fmt.Fprintf(w, "sent %d to %s\n", r.Sent, r.Queue) }}
}

// receiveOptions are the flags of receive.
type receiveOptions struct {
	consumer string
	max      int
	wait     time.Duration
	ack      bool
	meta     bool
}

func (p *program) receiveCommand(f *queueFlags) *cobra.Command {
	var o receiveOptions
	cmd := &cobra.Command{
		Use:   "receive NAME",
		Short: "Print entries of a queue or topic and take them off it",
		Long: "Print the data of entries, a line each, and ack them. It ends after --max entries,\n" +
			"or when none came for --wait. A topic needs --consumer: the name under which it\n" +
			"remembers what this reader has had; a new name begins at the oldest entry.\n" +
			"No instance may run on the data folder meanwhile; weir queue list works beside one.",
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: p.queuesOr(cobra.ShellCompDirectiveNoFileComp, f),
		RunE: p.action(func(ctx context.Context, cmd *cobra.Command, args []string) (answer, error) {
			f.topic = f.topic || o.consumer != ""
			if f.topic && o.consumer == "" {
				return answer{}, usageError{errors.New("a topic needs --consumer")}
			}
			if o.max < 0 || o.wait < 0 {
				return answer{}, usageError{errors.New("--max and --wait must not be negative")}
			}
			c, err := p.place(cmd, f, args[0])
			if err != nil {
				return answer{}, err
			}
			return p.receive(ctx, c, o)
		}),
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.topic, "topic", false, "NAME is a topic")
	flags.StringVar(&o.consumer, "consumer", "", "the reader's name; NAME is a topic")
	flags.IntVar(&o.max, "max", 0, "how many entries at most (default all)")
	flags.DurationVar(&o.wait, "wait", 0, "how long to wait for more, such as 5s")
	flags.BoolVar(&o.ack, "ack", true, "take the entries off; --ack=false leaves them for others")
	flags.BoolVar(&o.meta, "meta", false, "print each entry as JSON with its key, headers and time")
	return cmd
}

// entry is a delivery as --meta and --json show it.
type entry struct {
	ID        string            `json:"id,omitempty"`
	Key       string            `json:"key,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`
	Published time.Time         `json:"published"`
	Attempt   int               `json:"attempt"`
	Data      any               `json:"data"` // JSON, or text where it is none
}

func newEntry(d transports.Delivery) entry {
	e := entry{ID: d.ID, Key: string(d.Key), Published: d.Published.UTC(), Attempt: d.Attempt}
	for _, h := range d.Headers {
		if e.Headers == nil {
			e.Headers = map[string]string{}
		}
		e.Headers[h.Name] = h.Value
	}
	switch {
	case json.Valid(d.Data):
		e.Data = json.RawMessage(bytes.Clone(d.Data))
	case utf8.Valid(d.Data):
		e.Data = string(d.Data)
	default:
		e.Data = bytes.Clone(d.Data) // base64
	}
	return e
}

func (p *program) receive(ctx context.Context, c local.QueueConfig, o receiveOptions) (a answer, err error) {
	if err := mustExist(c); err != nil {
		return answer{}, err
	}
	q, err := local.OpenQueueWith(c)
	if err != nil {
		return answer{}, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	consumer, err := q.Consumer(o.consumer, true)
	if err != nil {
		return answer{}, wrongInput{err}
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	if p.json && (o.max == 0 || o.max > maxInJSON) {
		o.max = maxInJSON
	}
	entries := []entry{}
	for count := 0; o.max == 0 || count < o.max; {
		most := takeEntries
		if o.max > 0 {
			most = min(most, o.max-count)
		}
		got, err := consumer.Receive(ctx, most, o.wait)
		if err != nil {
			return answer{result: entries}, err
		}
		if len(got) == 0 {
			break
		}
		count += len(got)
		if p.json {
			for _, d := range got {
				entries = append(entries, newEntry(d))
			}
		} else if err := p.printDeliveries(got, o.meta); err != nil {
			return answer{}, err
		}
		if !o.ack {
			continue
		}
		// Only what was printed is acked: a reader that went away gets it again.
		if err := consumer.Ack(got...); err != nil {
			return answer{result: entries}, err
		}
	}
	return answer{result: entries}, nil
}

func (p *program) printDeliveries(got []transports.Delivery, meta bool) error {
	w := bufio.NewWriter(p.out)
	for _, d := range got {
		line := d.Data
		if meta {
			var err error
			if line, err = json.Marshal(newEntry(d)); err != nil {
				return fmt.Errorf("print an entry: %w", err)
			}
		}
		w.Write(line)
		w.WriteByte('\n')
	}
	return w.Flush()
}

// mustExist refuses names that no queue has: opening one would make it.
func mustExist(c local.QueueConfig) error {
	all, err := local.List(c.FS, c.Data)
	if err != nil {
		return err
	}
	var names []string
	for _, q := range all {
		if q.Kind != c.Kind {
			continue
		}
		if q.Name == c.Name {
			return nil
		}
		names = append(names, q.Name)
	}
	if len(names) == 0 {
		return wrongInput{fmt.Errorf("no %s %q: there are none in %s", c.Kind, c.Name, c.Data)}
	}
	return wrongInput{fmt.Errorf("no %s %q; there are: %s", c.Kind, c.Name, list(names))}
}

// listed is a queue as --json shows it.
type listed struct {
	Kind      string     `json:"kind"`
	Name      string     `json:"name"`
	Held      uint64     `json:"held"`      // not settled, or of a topic not dropped yet
	Published uint64     `json:"published"` // ever
	Bytes     int64      `json:"bytes"`
	Consumers []consumer `json:"consumers"`
}

type consumer struct {
	Name    string `json:"name"`
	Settled uint64 `json:"settled"`
	Waiting uint64 `json:"waiting"`
}

func (p *program) listCommand(f *queueFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List queues and topics with their consumers and what waits for them",
		Args:  cobra.NoArgs,
		RunE: p.action(func(_ context.Context, cmd *cobra.Command, _ []string) (answer, error) {
			c, err := p.place(cmd, f, "")
			if err != nil {
				return answer{}, err
			}
			all, err := local.List(c.FS, c.Data)
			if err != nil {
				return answer{}, err
			}
			result := []listed{}
			for _, q := range all {
				l := listed{Kind: string(q.Kind), Name: q.Name, Held: q.Held, Published: q.Entries, Bytes: q.Bytes, Consumers: []consumer{}}
				for _, x := range q.Consumers {
					l.Consumers = append(l.Consumers, consumer{x.Name, x.Settled, x.Waiting})
				}
				result = append(result, l)
			}
			return answer{result: result, text: func(w io.Writer) { printQueues(w, result) }}, nil
		}),
	}
}

func printQueues(w io.Writer, all []listed) {
	if len(all) == 0 {
		fmt.Fprintln(w, "There are no queues and topics yet.")
		return
	}
	fmt.Fprintf(w, "%-6s %-24s %12s %12s %14s  %s\n", "kind", "name", "held", "published", "bytes", "waiting")
	for _, q := range all {
		var waiting []string
		for _, c := range q.Consumers {
			if q.Kind == string(local.QueueKind) {
				waiting = append(waiting, thousands(c.Waiting))
				continue
			}
			waiting = append(waiting, c.Name+" "+thousands(c.Waiting))
		}
		if len(q.Consumers) == 0 && q.Kind == string(local.QueueKind) {
			waiting = []string{thousands(q.Held)}
		}
		fmt.Fprintf(w, "%-6s %-24s %12s %12s %14s  %s\n", q.Kind, q.Name, thousands(q.Held), thousands(q.Published), thousands(uint64(q.Bytes)), strings.Join(waiting, ", "))
	}
}
