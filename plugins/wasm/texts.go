package wasm

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"
)

const maxLogLine = 1 << 10 // bytes

// clip cuts a guest's text to a length and to whole UTF-8.
func clip(b []byte, most int) string {
	if len(b) > most {
		b = b[:most]
		for i := 0; i < utf8.UTFMax && len(b) > 0 && !utf8.RuneStart(b[len(b)-1]); i++ {
			b = b[:len(b)-1]
		}
		if len(b) > 0 && b[len(b)-1] >= utf8.RuneSelf {
			b = b[:len(b)-1]
		}
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// reasons are the texts that a guest gave for events of a call.
type reasons struct {
	text  []byte
	spans []span
	used  bool
}

type span struct{ at, n int }

func (r *reasons) reset(count int) {
	if count > cap(r.spans) {
		r.spans = make([]span, count)
		r.used = false
	}
	if r.used || count != len(r.spans) {
		r.spans = r.spans[:count]
		clear(r.spans)
	}
	r.text, r.used = r.text[:0], false
}

// set keeps a text for an event: the last one, as far as the call has room.
func (r *reasons) set(event int, text []byte) {
	n := min(len(text), MaxReason, MaxReasons-len(r.text))
	r.spans[event] = span{len(r.text), n}
	r.text = append(r.text, text[:n]...)
	r.used = true
}

func (r *reasons) get(event int) string {
	if event < 0 || event >= len(r.spans) {
		return ""
	}
	s := r.spans[event]
	return clip(r.text[s.at:s.at+s.n], MaxReason)
}

// guestLogger writes an instance's lines to the log, so many a second.
type guestLogger struct {
	log     *slog.Logger
	most    int
	second  int64
	written int
	left    int // lines left out since the last report
}

func (g *guestLogger) line(level slog.Level, event int, text []byte) {
	ctx := context.Background()
	if now := time.Now().Unix(); now != g.second {
		g.report()
		g.second, g.written = now, 0
	}
	if g.written >= g.most {
		g.left++
		return
	}
	g.written++
	if !g.log.Enabled(ctx, level) {
		return
	}
	if event >= 0 {
		g.log.Log(ctx, level, clip(text, maxLogLine), "event", event)
		return
	}
	g.log.Log(ctx, level, clip(text, maxLogLine))
}

// report says how many lines were left out.
func (g *guestLogger) report() {
	if g.left > 0 {
		g.log.Warn(fmt.Sprintf("%d log lines of the plug-in were left out: at most %d a second", g.left, g.most))
		g.left = 0
	}
}
