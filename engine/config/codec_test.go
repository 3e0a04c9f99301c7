package config

import (
	"strings"
	"testing"

	"github.com/weir-project/weir/transports"
)

// picky is a sink that needs its entries in a codec.
type picky struct {
	transports.Sink
	codec []string
}

func (p picky) Codec() []string { return p.codec }

// TestCodecAt: a sink that needs a codec gets it where none is configured.
func TestCodecAt(t *testing.T) {
	for _, c := range []struct {
		configured string
		end        transports.Sink
		want       string // a part of the error where it begins with "codec:"
	}{
		{"original", picky{}, "original"},
		{"eventbridge", picky{}, "eventbridge"},
		{"original", picky{codec: []string{"cloudevents"}}, "cloudevents"},
		{"cloudevents", picky{codec: []string{"cloudevents"}}, "cloudevents"},
		{"eventbridge", picky{codec: []string{"cloudevents"}}, "codec: eventbridge, but webhook needs cloudevents here"},
	} {
		s := &Sink{Transport: "webhook", Codec: []string{c.configured}}
		codec, err := s.CodecAt(c.end)
		switch {
		case strings.HasPrefix(c.want, "codec:"):
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.configured, err, c.want)
			}
		case err != nil || codec.String() != c.want:
			t.Errorf("%s at %v: %v, %v, want %s", c.configured, c.end, codec, err, c.want)
		}
	}
}
