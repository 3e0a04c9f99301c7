package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"
)

// summary is what a run did.
type summary struct {
	Seconds     float64           `json:"seconds"`
	Events      uint64            `json:"events"`     // settled in this run
	Before      uint64            `json:"before"`     // settled by earlier runs
	PerSecond   float64           `json:"per_second"` // events of this run
	Derived     uint64            `json:"derived"`    // of events: emitted by routes
	InFlight    uint64            `json:"in_flight"`  // received and not settled: they come again
	Outcomes    map[string]uint64 `json:"outcomes"`   // what became of the events
	DeadLetters map[string]uint64 `json:"dead_letters"`
	Routes      []routeCount      `json:"routes"`
	Parked      map[string]uint64 `json:"parked"` // deliveries that wait, by sink

	next []string // commands to try
}

// routeCount is how many events took a route.
type routeCount struct {
	Name   string `json:"name"`
	Events uint64 `json:"events"`
}

// outcomeOrder is how outcomes are listed; others come after them.
var outcomeOrder = []string{"delivered", "duplicate", "unmatched", "filtered", "stale", "expired", "discarded", "conflict", "refused", "dead", "parked"}

// alwaysShown are the outcomes that a reader looks for even where there are none.
var alwaysShown = []string{"delivered", "duplicate"}

// print writes the summary for people.
func (s summary) print(w io.Writer) {
	elapsed := time.Duration(s.Seconds * float64(time.Second))
	fmt.Fprintf(w, "Ran for %s.\n\n", elapsed.Round(time.Millisecond))
	row(w, "events", s.Events, fmt.Sprintf("new, %s a second; %s before this run", thousands(uint64(s.PerSecond)), thousands(s.Before)))
	if s.Derived > 0 {
		row(w, "of these derived", s.Derived, "emitted by routes")
	}
	for _, name := range s.outcomes() {
		row(w, "  "+name, s.Outcomes[name], "")
	}
	var dead uint64
	for _, n := range s.DeadLetters {
		dead += n
	}
	row(w, "dead letters", dead, "")
	for _, reason := range slices.Sorted(maps.Keys(s.DeadLetters)) {
		row(w, "  "+reason, s.DeadLetters[reason], "")
	}
	for _, sink := range slices.Sorted(maps.Keys(s.Parked)) {
		row(w, "parked", s.Parked[sink], "for sink "+sink+"; they go on at the next start")
	}
	if s.InFlight > 0 {
		row(w, "not settled", s.InFlight, "they come again at the next start")
	}
	if len(s.Routes) > 0 {
		fmt.Fprintln(w, "\nRoutes took")
		for _, r := range s.Routes {
			row(w, r.Name, r.Events, "")
		}
	}
	if len(s.next) > 0 {
		fmt.Fprintln(w, "\nNext")
		for _, command := range s.next {
			fmt.Fprintf(w, "  %s\n", command)
		}
	}
}

// row writes a figure with its name.
func row(w io.Writer, name string, n uint64, note string) {
	if note != "" {
		note = "  " + note
	}
	fmt.Fprintf(w, "  %-24s %14s%s\n", name, thousands(n), note)
}

// outcomes lists the names worth showing.
func (s summary) outcomes() []string {
	var names []string
	for _, name := range outcomeOrder {
		if s.Outcomes[name] > 0 || slices.Contains(alwaysShown, name) {
			names = append(names, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Outcomes)) {
		if !slices.Contains(outcomeOrder, name) {
			names = append(names, name)
		}
	}
	return names
}

// thousands writes a number with commas.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
