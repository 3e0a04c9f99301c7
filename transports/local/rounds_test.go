package local

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRoundsServeEveryCallerOnce has callers come again at once, as publishers do.
func TestRoundsServeEveryCallerOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r rounds[[]int]
		var writing atomic.Bool
		seen := map[int]int{}
		writes := 0
		write := func(got *[]int) error {
			if writing.Swap(true) {
				t.Error("two rounds were written at once")
			}
			time.Sleep(time.Millisecond)
			for _, n := range *got {
				seen[n]++
			}
			*got = (*got)[:0]
			writes++
			writing.Store(false)
			return nil
		}
		const callers, times = 4, 50
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for i := range times {
					if err := r.do(func(s *[]int) { *s = append(*s, c*times+i) }, write); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for n := range callers * times {
			if seen[n] != 1 {
				t.Fatalf("%d was written %d times", n, seen[n])
			}
		}
		if writes > times+4 {
			t.Errorf("%d writes for %d calls of %d callers: they take turns", writes, times, callers)
		}
	})
}

func TestRoundsHandTheErrorToItsCallersOnly(t *testing.T) {
	var r rounds[int]
	bad := errors.New("bad")
	for i, want := range []error{nil, bad, nil} {
		if err := r.do(func(*int) {}, func(*int) error { return want }); !errors.Is(err, want) {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
	}
}
