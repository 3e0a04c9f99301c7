package rehearsal

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
)

// inBubble runs do in a bubble of virtual time. do must have ended all that it
// started when it returns.
//
// synctest wants a test around a bubble, and offers no other way in. The zero
// testing.T is enough of one: it is asked for nothing but to hold the bubble's own,
// which is a complete test. TestBubble holds each version of Go to that.
func inBubble(do func()) error {
	done := make(chan error, 1)
	go func() { // of its own: a test that failed ends its goroutine
		err := errors.New("it came to no end")
		defer func() {
			if p := recover(); p != nil { // of synctest: goroutines that wait for ever
				err = fmt.Errorf("%v", p)
			}
			done <- err
		}()
		synctest.Test(new(testing.T), func(*testing.T) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v", p)
				}
			}()
			do()
			err = nil
		})
	}()
	return <-done
}

// settle returns when everything in the bubble waits.
func settle() { synctest.Wait() }
