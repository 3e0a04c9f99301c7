package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weir-project/weir/engine/flow"
	"github.com/weir-project/weir/engine/letters"
)

// LettersPath is where dead letters are listed (GET) and orders about them are given
// (POST, the body being a letters.Order, the answer a letters.Result).
const LettersPath = "/v1/letters"

// Limits of one request that redrives or drops: the client asks again while More is
// set, with Filter.From = Next.
const (
	lettersARequest = 5000
	secondsOfRate   = 5
)

// letterKeeper is an engine whose dead letters can be looked at.
type letterKeeper interface {
	EachLetter(ctx context.Context, filter *letters.Filter, visit func(*letters.Letter) error) error
	CarryLetters(ctx context.Context, o *letters.Order) (letters.Result, error)
}

// letterFields are the parameters of a filter.
var letterFields = []string{"reason", "route", "sink", "source", "key", "id", "since", "until", "numbers", "limit"}

func (s *Server) letterEndpoints() []Endpoint {
	keeper, ok := s.cfg.Engine.(letterKeeper)
	if !ok {
		return nil
	}
	return []Endpoint{
		{
			Method: http.MethodGet, Path: LettersPath, Query: letterFields,
			Stream: func(r *http.Request, send func(any) error) error { return listLetters(keeper, r, send) },
		},
		{
			Method: http.MethodPost, Path: LettersPath, Body: JSON,
			Answer: func(r *http.Request) (any, error) { return orderLetters(keeper, r) },
		},
	}
}

// errEnough ends a list at its limit.
var errEnough = errors.New("enough")

func listLetters(keeper letterKeeper, r *http.Request, send func(any) error) error {
	filter, limit, err := LetterFilter(r.URL.Query())
	if err != nil {
		return Refuse(http.StatusBadRequest, "%w", err)
	}
	count := 0
	err = keeper.EachLetter(r.Context(), filter, func(l *letters.Letter) error {
		if count++; limit > 0 && count > limit {
			return errEnough
		}
		return send(l)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return refusedLetters(err)
}

func orderLetters(keeper letterKeeper, r *http.Request) (any, error) {
	var o letters.Order
	if err := Decode(r, &o); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, Refuse(http.StatusBadRequest, "%w", err)
	}
	if !o.Count {
		most := lettersARequest
		if o.Rate > 0 {
			most = min(most, secondsOfRate*o.Rate)
		}
		if o.Limit == 0 || o.Limit > most {
			o.Limit = most
		}
	}
	result, err := keeper.CarryLetters(r.Context(), &o)
	return result, refusedLetters(err)
}

// refusedLetters gives errors of the client's side their status.
func refusedLetters(err error) error {
	var not *letters.NotHere
	switch {
	case errors.As(err, &not):
		return Refuse(http.StatusNotFound, "%w", err)
	case errors.Is(err, flow.ErrAtWork):
		return Refuse(http.StatusConflict, "%w", err)
	}
	return err
}

// LetterQuery writes a filter as parameters of GET; limit 0 = all.
func LetterQuery(f *letters.Filter, limit int) url.Values {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("reason", f.Reason)
	set("route", f.Route)
	set("sink", f.Sink)
	set("source", f.Source)
	set("key", f.Key)
	set("id", f.ID)
	for name, at := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !at.IsZero() {
			set(name, at.Format(time.RFC3339Nano))
		}
	}
	var numbers []string
	for _, n := range f.Numbers {
		numbers = append(numbers, strconv.FormatUint(n, 10))
	}
	set("numbers", strings.Join(numbers, ","))
	if limit > 0 {
		set("limit", strconv.Itoa(limit))
	}
	return q
}

// LetterFilter reads what LetterQuery wrote.
func LetterFilter(q url.Values) (f *letters.Filter, limit int, err error) {
	f = &letters.Filter{
		Reason: q.Get("reason"), Route: q.Get("route"), Sink: q.Get("sink"),
		Source: q.Get("source"), Key: q.Get("key"), ID: q.Get("id"),
	}
	for name, at := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if text := q.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return nil, 0, fmt.Errorf("%s: %q is no time such as 2006-01-02T15:04:05Z", name, text)
			}
		}
	}
	for text := range strings.SplitSeq(q.Get("numbers"), ",") {
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, 0, fmt.Errorf("numbers: %q is none", text)
		}
		f.Numbers = append(f.Numbers, n)
	}
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 0 {
			return nil, 0, fmt.Errorf("limit: %q is no number", text)
		}
	}
	return f, limit, f.Validate()
}
