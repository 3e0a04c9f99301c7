package config

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestUnits(t *testing.T) {
	sizes := map[string]int64{
		"0": 0, "1048576": 1 << 20, "10_000": 10_000, "16MiB": 16 << 20, "16 MiB": 16 << 20, "1.5KiB": 1536,
		"512B": 512, "3kB": 3000, "2GB": 2e9, "1TiB": 1 << 40, "7EiB": -1, "": -1, "MiB": -1, "1.MiB": -1, ".5MiB": -1,
		"-1": -1, "-1MiB": -1, "1e3": -1, "010": -1, "99999999TiB": -1, "1__0": -1, "5 gigs": -1, "1MiBB": -1,
	}
	for text, want := range sizes {
		if got, err := parseSize(text); (err == nil && got != want) || (err != nil) != (want < 0) {
			t.Errorf("parseSize(%q) is %d, %v; want %d", text, got, err, want)
		}
	}
	const bad = time.Duration(math.MinInt64)
	durations := map[string]time.Duration{
		"0": 0, "5s": 5 * time.Second, "1h30m": 90 * time.Minute, "14d": 14 * 24 * time.Hour, "1d12h": 36 * time.Hour,
		"1.5d": 36 * time.Hour, "250us": 250 * time.Microsecond, "": bad, "5": bad, "d": bad, "-1s": bad, "1d-1h": bad,
		"+1s": bad, "1h1d": bad, "infd": bad, "1e3d": bad, "5 s": bad, "1w": bad, "999999999d": bad, "1d 2h": bad,
	}
	for text, want := range durations {
		got, err := parseDuration(text)
		if (err == nil && got != want) || (err != nil) != (want == bad) {
			t.Errorf("parseDuration(%q) is %v, %v; want %v", text, got, err, want)
		}
	}
	ints := map[string]int64{"0": 0, "10_000": 10_000, "-5": -5, "010": -1, "0x10": -1, "1e3": -1, "_1": -1, "1_": -1, "99999999999999999999": -1}
	for text, want := range ints {
		if got, err := parseInt(text); (err == nil && got != want) || (err != nil) != (want == -1) {
			t.Errorf("parseInt(%q) is %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestUnitsReadWhatTheyWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "bytes") >> rapid.IntRange(0, 62).Draw(t, "shift")
		if n > 1<<53 {
			n &^= 1<<12 - 1 // sizes go through float64, exact for whole units
		}
		if got, err := parseSize(formatSize(n)); err != nil || got != n {
			t.Fatalf("%d is written %s and read %d, %v", n, formatSize(n), got, err)
		}
		d := time.Duration(n)
		if got, err := parseDuration(formatDuration(d)); err != nil || got != d {
			t.Fatalf("%v is written %s and read %v, %v", d, formatDuration(d), got, err)
		}
	})
}

func TestDidYouMean(t *testing.T) {
	known := []string{"kitchen", "audit", "dead"}
	for name, want := range map[string]string{
		"kichen": `did you mean "kitchen"?`, "KITCHEN": `did you mean "kitchen"?`, "aduit": `did you mean "audit"?`,
		"zebra": "known: audit, dead, kitchen", "": "known: audit, dead, kitchen",
	} {
		if got := didYouMean(name, known); got != want {
			t.Errorf("didYouMean(%q) is %q, want %q", name, got, want)
		}
	}
}
