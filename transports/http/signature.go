package http

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // receivers of old webhooks have nothing else
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	nethttp "net/http"
	"strconv"
	"strings"
	"time"
)

// maxSignatures is how many signatures of one request are looked at.
const maxSignatures = 16

// verifier checks the signatures of requests. It may be used concurrently.
type verifier struct {
	secrets   [][]byte
	webhook   bool   // in the manner of Standard Webhooks; else of the body alone
	header    string // of the body's signature
	algorithm string // of the body's signature
}

// verify returns why a request is not to be trusted, nil where it is. All compare in
// constant time, and every secret is tried.
func (v *verifier) verify(h nethttp.Header, body []byte, now time.Time) error {
	if v.webhook {
		return v.verifyWebhook(h, body, now)
	}
	text := h.Get(v.header)
	if text == "" {
		return fmt.Errorf("the header %s is missing", v.header)
	}
	if name, value, ok := strings.Cut(text, "="); ok && strings.EqualFold(name, v.algorithm) {
		text = value // sha256=..
	}
	given := readMAC(text)
	ok := 0
	for _, secret := range v.secrets {
		ok |= subtle.ConstantTimeCompare(given, mac(v.algorithm, secret, body))
	}
	if ok == 0 {
		return fmt.Errorf("%s is not the body's HMAC-%s", v.header, strings.ToUpper(v.algorithm))
	}
	return nil
}

func (v *verifier) verifyWebhook(h nethttp.Header, body []byte, now time.Time) error {
	id, stamp := h.Get(webhookID), h.Get(webhookTime)
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if id == "" || err != nil {
		return fmt.Errorf("the headers %s, %s and %s are needed", webhookID, webhookTime, webhookSign)
	}
	// Compared before the signature, so that an old request cannot be played again.
	if age := now.Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return fmt.Errorf("%s is more than %v from now", webhookTime, tolerance)
	}
	ok := 0
	for i, signature := range strings.Fields(h.Get(webhookSign)) {
		text, isV1 := strings.CutPrefix(signature, "v1,")
		if !isV1 || i >= maxSignatures {
			continue
		}
		given, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		for _, secret := range v.secrets {
			ok |= subtle.ConstantTimeCompare(given, webhookMAC(secret, id, stamp, body))
		}
	}
	if ok == 0 {
		return errors.New(webhookSign + " is not that of " + webhookID + ", " + webhookTime + " and body")
	}
	return nil
}

// readMAC reads hex or base64; nil where a text is neither.
func readMAC(text string) []byte {
	if b, err := hex.DecodeString(text); err == nil {
		return b
	}
	if b, err := base64.StdEncoding.DecodeString(text); err == nil {
		return b
	}
	return nil
}

func mac(algorithm string, secret []byte, parts ...[]byte) []byte {
	var h hash.Hash
	switch algorithm {
	case "sha512":
		h = hmac.New(sha512.New, secret)
	case "sha1":
		h = hmac.New(sha1.New, secret)
	default:
		h = hmac.New(sha256.New, secret)
	}
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func webhookMAC(secret []byte, id, stamp string, body []byte) []byte {
	return mac("sha256", secret, []byte(id), []byte("."), []byte(stamp), []byte("."), body)
}

// sign sets the headers of Standard Webhooks, with one signature for each secret.
func sign(h nethttp.Header, secrets [][]byte, id string, body []byte, now time.Time) {
	stamp := strconv.FormatInt(now.Unix(), 10)
	list := make([]string, len(secrets))
	for i, secret := range secrets {
		list[i] = "v1," + base64.StdEncoding.EncodeToString(webhookMAC(secret, id, stamp, body))
	}
	h.Set(webhookID, id)
	h.Set(webhookTime, stamp)
	h.Set(webhookSign, strings.Join(list, " "))
}
