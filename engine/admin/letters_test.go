package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/letters"
)

// TestLetterQueryComesBack: what a client asks for is what the server understands.
func TestLetterQueryComesBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		want := letters.Filter{
			Reason: rapid.String().Draw(r, "reason"), Route: rapid.String().Draw(r, "route"), Sink: rapid.String().Draw(r, "sink"),
			Source: rapid.String().Draw(r, "source"), Key: rapid.String().Draw(r, "key"), ID: rapid.String().Draw(r, "id"),
			Numbers: rapid.SliceOfN(rapid.Uint64(), 0, 5).Draw(r, "numbers"),
		}
		if len(want.Numbers) == 0 {
			want.Numbers = nil
		}
		if rapid.Bool().Draw(r, "timed") {
			want.Since = time.Unix(rapid.Int64Range(0, 1<<32).Draw(r, "since"), rapid.Int64Range(0, 999_999_999).Draw(r, "ns")).UTC()
		}
		limit := rapid.IntRange(0, 1000).Draw(r, "limit")
		got, n, err := LetterFilter(LetterQuery(&want, limit))
		if err != nil || n != limit || !reflect.DeepEqual(*got, want) {
			r.Fatalf("%+v, %d, %v comes back of %+v, %d", got, n, err, want, limit)
		}
	})
}

// keeper is an engine with dead letters.
type keeper struct {
	*engineAt
	all    []letters.Letter
	orders []letters.Order
	err    error
}

func (k *keeper) EachLetter(_ context.Context, f *letters.Filter, visit func(*letters.Letter) error) error {
	for i := range k.all {
		if f.Takes(&k.all[i]) {
			if err := visit(&k.all[i]); err != nil {
				return err
			}
		}
	}
	return k.err
}

func (k *keeper) CarryLetters(_ context.Context, o *letters.Order) (letters.Result, error) {
	k.orders = append(k.orders, *o)
	return letters.Result{Done: 3}, k.err
}

func TestLetterEndpoints(t *testing.T) {
	k := &keeper{engineAt: newEngine(t), all: []letters.Letter{{Number: 1}, {Number: 2}, {Number: 3}}}
	k.all[1].Reason = "poison"
	s, err := New(Config{Engine: k, Authorize: func(*http.Request) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	ask := func(method, target, body string) (int, string) {
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		if method == http.MethodPost {
			r.Header.Set("Content-Type", JSON)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for _, test := range []struct {
		method, target, body string
		err                  error
		code                 int
		lines                int
		want                 string
	}{
		{"GET", LettersPath, "", nil, 200, 3, `"number":1`},
		{"GET", LettersPath + "?reason=poison", "", nil, 200, 1, `"number":2`},
		{"GET", LettersPath + "?limit=2", "", nil, 200, 2, `"number":2`},
		{"GET", LettersPath + "?numbers=3", "", nil, 200, 1, `"number":3`},
		{"GET", LettersPath + "?numbers=x", "", nil, 400, 0, "numbers"},
		{"GET", LettersPath + "?since=yesterday", "", nil, 400, 0, "no time"},
		{"GET", LettersPath + "?limit=-1", "", nil, 400, 0, "limit"},
		{"GET", LettersPath + "?reason=none", "", &letters.NotHere{}, 404, 0, "dead_letters: false"},
		{"POST", LettersPath, `{"drop":true,"limit":7}`, nil, 200, 0, `"done": 3`},
		{"POST", LettersPath, `{"rate":10}`, nil, 200, 0, `"done": 3`},
		{"POST", LettersPath, `{"count":true}`, nil, 200, 0, `"done": 3`},
		{"POST", LettersPath, `{"rate":-1}`, nil, 400, 0, "rate"},
		{"POST", LettersPath, `{"rates":1}`, nil, 400, 0, "rates"},
		{"POST", LettersPath, `{}`, flow.ErrAtWork, 409, 0, "at work"},
		{"POST", LettersPath, `{}`, errors.New("disk full"), 500, 0, "disk full"},
	} {
		k.err = test.err
		code, body := ask(test.method, test.target, test.body)
		if code != test.code || !strings.Contains(body, test.want) || test.lines > 0 && strings.Count(body, "\n") != test.lines {
			t.Errorf("%s %s %s answers %d\n%s", test.method, test.target, test.body, code, body)
		}
	}
	// One request never works for long; the client goes on where it ended.
	if got := []int{k.orders[0].Limit, k.orders[1].Limit, k.orders[2].Limit}; !reflect.DeepEqual(got, []int{7, 10 * secondsOfRate, 0}) {
		b, _ := json.Marshal(k.orders)
		t.Errorf("limits are %v: %s", got, b)
	}
}
