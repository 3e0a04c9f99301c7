package config

import (
	"bytes"
	"encoding/json"
)

// minSecret is the shortest text that is struck out: shorter ones stand in words.
const minSecret = 4

// struckOut stands where a secret was.
const struckOut = "(secret)"

// keepSecret notes the value of a secret, or of a list of them.
func (f *findings) keepSecret(n *node) {
	for _, item := range append([]*node{n}, n.items...) {
		if item.kind == scalar && len(item.text) >= minSecret {
			f.secrets = append(f.secrets, item.text)
		}
	}
}

// Redact strikes the values of the plan's secrets out of a text that is to be shown,
// as they are and as JSON writes them. It returns the text itself where there are none.
func (p *Plan) Redact(text []byte) []byte {
	for _, secret := range p.secrets {
		forms := [][]byte{[]byte(secret)}
		if quoted, err := json.Marshal(secret); err == nil && len(quoted) > 2 {
			forms = append(forms, quoted[1:len(quoted)-1])
		}
		for _, form := range forms {
			if bytes.Contains(text, form) {
				text = bytes.ReplaceAll(text, form, []byte(struckOut))
			}
		}
	}
	return text
}
