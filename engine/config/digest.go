package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// digest fills in the digests of a plan and of its parts. They are taken over
// what was understood, so that comments, order and spelling do not count.
// They cover secrets, so that a rotated one shows.
func (p *Plan) digest() error {
	parts := []any{p.Node, p.Routes, p.Unmatched, p.Journal, p.Registry, p.DeadLetters.Keep, p.DeadLetters.Max}
	var err error
	for i := range p.Sources {
		s := &p.Sources[i]
		zone := ""
		if s.Missing.Zone != nil {
			zone = s.Missing.Zone.String()
		}
		plain := *s
		plain.Missing.Zone = nil // its fields are not exported, so JSON would not tell zones apart
		if s.Digest, err = digestOf(plain, zone); err != nil {
			return err
		}
		parts = append(parts, "source", s.Digest)
	}
	for i := range p.Plugins {
		if p.Plugins[i].Digest, err = digestOf(p.Plugins[i]); err != nil {
			return err
		}
		parts = append(parts, "plugin", p.Plugins[i].Digest)
	}
	for i := range p.Sinks {
		if p.Sinks[i].Digest, err = digestOf(p.Sinks[i]); err != nil {
			return err
		}
		parts = append(parts, "sink", p.Sinks[i].Digest)
	}
	dead := &p.DeadLetters.Sink
	if dead.Digest, err = digestOf(*dead); err != nil {
		return err
	}
	p.Digest, err = digestOf(append(parts, "dead letters", dead.Digest)...)
	return err
}

// digestOf hashes values by their JSON, in which members of maps are sorted.
func digestOf(values ...any) (string, error) {
	text, err := json.Marshal(values)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
