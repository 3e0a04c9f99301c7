package local

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/vfs"
	"github.com/weir-project/weir/transports"
)

func heldIn(t interface{ Fatal(...any) }, h transports.Holder, from uint64) (list []string) {
	err := h.Held(from, func(d *transports.Delivery) (bool, error) {
		list = append(list, fmt.Sprintf("%d %s", d.Ordinal, d.Data))
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestHeld: what is taken off by number is gone for good, for those who look and for
// those who read, whatever was read before (model: a list).
func TestHeld(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		mem := vfs.NewMem()
		q, err := OpenQueue(mem, "/d", "q")
		if err != nil {
			r.Fatal(err)
		}
		var model []string // by number, "" = gone
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			switch rapid.IntRange(0, 3).Draw(r, "step") {
			case 0, 1:
				text := fmt.Sprintf("e%d", len(model))
				if err := q.Send(t.Context(), transports.Entry{Data: []byte(text)}); err != nil {
					r.Fatal(err)
				}
				model = append(model, text)
			case 2:
				numbers := rapid.SliceOfN(rapid.Uint64Range(0, uint64(max(len(model)-1, 0))), 0, 4).Draw(r, "numbers")
				if len(model) == 0 {
					continue
				}
				if err := q.TakeOff(numbers); err != nil {
					r.Fatal(err)
				}
				for _, n := range numbers {
					model[n] = ""
				}
			default:
				if err := q.Close(); err != nil {
					r.Fatal(err)
				}
				if q, err = OpenQueue(mem, "/d", "q"); err != nil {
					r.Fatal(err)
				}
			}
			var want, left []string
			for n, text := range model {
				if text != "" {
					want = append(want, fmt.Sprintf("%d %s", n, text))
					left = append(left, text)
				}
			}
			if got := heldIn(r, q, 0); !slices.Equal(got, want) {
				r.Fatalf("held %q, want %q", got, want)
			}
			c, err := q.Consumer("", true)
			if err != nil {
				r.Fatal(err)
			}
			var read []string
			list, err := c.Receive(t.Context(), 100, 0)
			if err != nil {
				r.Fatal(err)
			}
			for _, d := range list {
				read = append(read, string(d.Data))
			}
			if err := c.Close(); err != nil {
				r.Fatal(err)
			}
			if !slices.Equal(read, left) {
				r.Fatalf("read %q, want %q", read, left)
			}
		}
		if err := q.Close(); err != nil {
			r.Fatal(err)
		}
	})
}

// TestHeldBesideAReader: nothing is taken off under the hands of one who reads.
func TestHeldBesideAReader(t *testing.T) {
	q, err := OpenQueue(vfs.NewMem(), "/d", "q")
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Send(t.Context(), transports.Entry{Data: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	c, err := q.Consumer("", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.TakeOff([]uint64{0}); err == nil {
		t.Error("an entry is taken off that a reader may hold")
	}
	if got := heldIn(t, q, 0); len(got) != 1 {
		t.Errorf("held: %q", got)
	}
	if err := errors.Join(c.Close(), q.TakeOff([]uint64{0}), q.Close()); err != nil {
		t.Error(err)
	}
	if err := q.Held(0, nil); !errors.Is(err, transports.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	topic, err := OpenQueueWith(QueueConfig{FS: vfs.NewMem(), Data: "/d", Kind: TopicKind, Name: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if err := topic.Held(0, nil); !errors.Is(err, ErrTopic) {
		t.Errorf("a topic: %v", err)
	}
	if err := topic.Close(); err != nil {
		t.Error(err)
	}
}
