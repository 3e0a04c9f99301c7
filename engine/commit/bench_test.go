package commit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-project/weir/engine/vfs"
)

// bareSync is the median of a small write and a sync in dir.
func bareSync(b *testing.B, dir string) time.Duration {
	f, err := vfs.OS{}.Create(filepath.Join(dir, "bare"))
	must(b, err)
	defer func() { must(b, f.Close()) }()
	took := make([]time.Duration, 51)
	for i := range took {
		began := time.Now()
		_, err := f.Write(make([]byte, 4096))
		must(b, err)
		must(b, f.Sync())
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// BenchmarkSubmit commits tickets of 4 KiB (a lane's batch) from four
// submitters, each with some tickets in flight, on the real file system.
func BenchmarkSubmit(b *testing.B) {
	for _, flight := range []int{1, 16} {
		b.Run(fmt.Sprint("flight=", flight), func(b *testing.B) {
			dir, err := os.MkdirTemp(".", "bench-")
			must(b, err)
			defer os.RemoveAll(dir)
			l, err := Open(Config{FS: vfs.OS{}, Dir: filepath.Join(dir, "log")}, nil, ignore)
			must(b, err)
			l.Start()
			record := make([]byte, 4096)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					free := make(chan *Ticket, flight)
					for range flight {
						t := &Ticket{Record: record}
						t.Committed = func(err error) {
							if err != nil {
								b.Error(err)
							}
							free <- t
						}
						free <- t
					}
					for range b.N / 4 {
						if err := l.Submit(context.Background(), <-free); err != nil {
							b.Error(err)
							return
						}
					}
					for range flight {
						<-free
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tickets/s")
			b.ReportMetric(float64(bareSync(b, dir).Microseconds()), "µs/bare-fsync")
			must(b, l.Close(context.Background()))
		})
	}
}

// TestNoAllocationPerTicket: in steady state a ticket costs no allocation.
func TestNoAllocationPerTicket(t *testing.T) {
	l := openLog(t, Config{FS: discard{vfs.NewMem()}, Dir: "data"})
	l.Start()
	done := make(chan struct{}, 1)
	ticket := &Ticket{Record: make([]byte, 512), Committed: func(error) { done <- struct{}{} }}
	ctx := context.Background()
	got := testing.AllocsPerRun(2000, func() {
		if err := l.Submit(ctx, ticket); err != nil {
			t.Error(err)
		}
		<-done
	})
	if got >= 1 {
		t.Fatalf("%v allocations a ticket", got)
	}
}

// discard is a file system whose appended files take no memory.
type discard struct{ vfs.FS }

type discardFile struct{ vfs.File }

func (d discard) Overwrite(name string, at int64) (vfs.File, error) {
	f, err := d.FS.Overwrite(name, at)
	return discardFile{f}, err
}

func (discardFile) Write(p []byte) (int, error) { return len(p), nil }
func (discardFile) Sync() error                 { return nil }
