package http

import (
	"encoding/json"
	"errors"
	nethttp "net/http"
	"strconv"
	"time"

	"github.com/weir-project/weir/transports"
)

// problem is why a request was not taken.
type problem struct {
	status int
	text   string
	hint   string
	after  time.Duration // Retry-After
}

func stopping() *problem {
	return &problem{status: nethttp.StatusServiceUnavailable, text: "stopping; send it again, what was taken before is not taken twice", after: pauseHint}
}

// Error implements error.
func (p *problem) Error() string { return p.text }

// answer is the body of answers; see the package comment.
type answer struct {
	Accepted *int      `json:"accepted,omitempty"`
	Refused  []refusal `json:"refused,omitempty"`
	More     int       `json:"more_refused,omitempty"` // beside those listed
	Error    string    `json:"error,omitempty"`
	Hint     string    `json:"hint,omitempty"`
}

type refusal struct {
	Index  int    `json:"index"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// refuse answers that nothing was taken.
func refuse(w nethttp.ResponseWriter, p *problem) {
	if p.after > 0 {
		w.Header().Set("Retry-After", seconds(p.after))
	}
	write(w, p.status, answer{Error: p.text, Hint: p.hint})
}

// seconds rounds up: a client that comes a little late is not early.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// accepted answers for a request whose events are taken.
func accepted(w nethttp.ResponseWriter, status, events int, refused []transports.Refusal) {
	a := answer{}
	n := events - len(refused)
	a.Accepted = &n
	for i, r := range refused {
		if i == maxRefusals {
			a.More = len(refused) - i
			break
		}
		a.Refused = append(a.Refused, refusal{r.Event, r.Reason, r.Detail})
	}
	switch {
	case len(refused) == 0:
	case n == 0:
		status = nethttp.StatusBadRequest
	default:
		status = nethttp.StatusMultiStatus
	}
	write(w, status, a)
}

func write(w nethttp.ResponseWriter, status int, a answer) {
	body, err := json.Marshal(a)
	if err != nil { // texts and numbers always marshal
		body = []byte(`{}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	h.Set("X-Content-Type-Options", "nosniff")
	// A client that does not read its answer must not hold the connection.
	_ = nethttp.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeLimit)) // not every writer has one
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may have gone; it learns nothing then and sends again
}

// asProblem finds the problem in an error.
func asProblem(err error, status int) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	return &problem{status: status, text: err.Error()}
}
