package http

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net"
	nethttp "net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/weir-project/weir/transports"
)

// Values of options.
const (
	answerCommit = "commit"
	answerAccept = "accept"

	signatureNone    = "none"
	signatureBody    = "body"
	signatureWebhook = "webhook"

	modeOriginal   = "original"
	modeStructured = "structured"
	modeBinary     = "binary"
	modeBatch      = "batch"
)

func sourceOptions() []transports.Option {
	return []transports.Option{
		{Name: "listen", Type: transports.String, Default: defaultListen, Doc: "Address to listen on; sources with the same one share it."},
		{Name: "path", Type: transports.String, Default: "/", Doc: "Path of requests, exactly."},
		{Name: "answer", Type: transports.String, Default: answerCommit, Enum: []string{answerCommit, answerAccept}, Doc: "Answer when the events are durable, or (accept) when they are in memory, where a crash loses them."},
		{Name: "tokens", Type: transports.Strings, Secret: true, Doc: "Bearer tokens, any of which will do; several for rotation."},
		{Name: "signature", Type: transports.String, Default: signatureNone, Enum: []string{signatureNone, signatureBody, signatureWebhook}, Doc: "Signature that requests need: an HMAC of the body, or one in the manner of Standard Webhooks."},
		{Name: "signature_header", Type: transports.String, Default: defaultHeader, Doc: "Header of a body's signature."},
		{Name: "signature_algorithm", Type: transports.String, Default: "sha256", Enum: []string{"sha256", "sha512", "sha1"}, Doc: "Hash of a body's signature."},
		{Name: "secrets", Type: transports.Strings, Secret: true, Doc: "Secrets of the signature, any of which will do; base64 behind whsec_, else as they are."},
		{Name: "key_header", Type: transports.String, Doc: "Header with the key of a request's events, percent-encoded; without it their own key counts."},
		{Name: "content_types", Type: transports.Strings, Doc: "Further content types that are read as JSON, such as text/plain."},
		{Name: "tls_cert", Type: transports.String, Path: true, Doc: "Certificate chain, PEM; read again when it changes."},
		{Name: "tls_key", Type: transports.String, Path: true, Doc: "Its key, PEM."},
		{Name: "tls_client_ca", Type: transports.String, Path: true, Doc: "Authorities, PEM; clients then need a certificate of one of them."},
		{Name: "tls_min_version", Type: transports.String, Default: "1.2", Enum: []string{"1.2", "1.3"}, Doc: "Oldest version of TLS."},
		{Name: "unguarded", Type: transports.Bool, Default: false, Doc: "Listen on an address that others can reach without TLS or without credentials, since something in front looks after that."},
		{Name: "max_body", Type: transports.Size, Default: int64(8 << 20), Doc: "Largest body, unpacked."},
		{Name: "max_header_bytes", Type: transports.Size, Default: int64(32 << 10), Doc: "Largest header of a request."},
		{Name: "max_headers", Type: transports.Int, Default: int64(100), Doc: "Most header lines of a request."},
		{Name: "max_connections", Type: transports.Int, Default: int64(1024), Doc: "Most connections at once; further ones wait."},
		{Name: "buffer", Type: transports.Size, Default: int64(64 << 20), Doc: "Bytes of all bodies that are read, wait or are in flight; above it requests are refused with 429."},
		{Name: "rate", Type: transports.Int, Default: int64(0), Doc: "Most requests a second; 0 = no limit."},
		{Name: "burst", Type: transports.Int, Default: int64(0), Doc: "Requests that may come at once above the rate; 0 = as many as the rate."},
		{Name: "wait", Type: transports.Duration, Default: time.Second, Doc: "How long a request waits for the engine to take it before it is refused with 429."},
		{Name: "commit_timeout", Type: transports.Duration, Default: 30 * time.Second, Doc: "How long a request waits for its commit before it is answered with 504."},
		{Name: "header_timeout", Type: transports.Duration, Default: 5 * time.Second, Doc: "For a client to send a request's header."},
		{Name: "body_timeout", Type: transports.Duration, Default: 30 * time.Second, Doc: "For a client to send a request's body."},
		{Name: "idle_timeout", Type: transports.Duration, Default: time.Minute, Doc: "For a connection without a request."},
	}
}

func sinkOptions() []transports.Option {
	return []transports.Option{
		{Name: "url", Type: transports.String, Required: true, Template: true, Escape: transports.EscapeURL, Doc: "Where requests go; placeholders in its path and query stand for fields of the event."},
		{Name: "method", Type: transports.String, Default: "POST", Enum: []string{"POST", "PUT", "PATCH"}, Doc: "Method of requests."},
		{Name: "mode", Type: transports.String, Default: modeOriginal, Enum: []string{modeOriginal, modeStructured, modeBinary, modeBatch}, Doc: "What a body is: the event as the sink's codec writes it, or a CloudEvent in structured, binary or batch mode."},
		{Name: "content_type", Type: transports.String, Default: "application/json", Doc: "Content type in original mode."},
		{Name: "headers", Type: transports.Strings, Template: true, Escape: transports.EscapeHeader, Doc: "Further headers, each as Name: value; placeholders in values stand for fields of the event."},
		{Name: "token", Type: transports.String, Secret: true, Doc: "Bearer token."},
		{Name: "signing_secrets", Type: transports.Strings, Secret: true, Doc: "Secrets with which requests are signed in the manner of Standard Webhooks, each once; base64 behind whsec_, else as they are."},
		{Name: "idempotency_header", Type: transports.String, Default: keyHeader, Doc: "Header that carries the event's id."},
		{Name: "key_header", Type: transports.String, Doc: "Header that carries the event's key, percent-encoded; not in batch mode."},
		{Name: "timeout", Type: transports.Duration, Default: 10 * time.Second, Doc: "For one request and its answer."},
		{Name: "connect_timeout", Type: transports.Duration, Default: 5 * time.Second, Doc: "For a connection, TLS included."},
		{Name: "concurrency", Type: transports.Int, Default: int64(8), Doc: "Requests at once."},
		{Name: "batch_bytes", Type: transports.Size, Default: int64(1 << 20), Doc: "Largest body in batch mode; one event may be larger."},
		{Name: "tls_ca", Type: transports.String, Path: true, Doc: "Authorities of the receiver, PEM, instead of the system's; read again when it changes."},
		{Name: "tls_cert", Type: transports.String, Path: true, Doc: "Own certificate chain, PEM; read again when it changes."},
		{Name: "tls_key", Type: transports.String, Path: true, Doc: "Its key, PEM."},
		{Name: "tls_server_name", Type: transports.String, Doc: "Name that the receiver's certificate must have, instead of the URL's."},
		{Name: "tls_min_version", Type: transports.String, Default: "1.2", Enum: []string{"1.2", "1.3"}, Doc: "Oldest version of TLS."},
	}
}

// sourceConfig is what configuration says of a source, checked. place is what
// sources with one address must have in common.
type sourceConfig struct {
	place
	path          string
	accept        bool
	tokens        []string
	check         *verifier // nil = no signature
	key           string    // header of the key, "" = none
	contentTypes  []string
	maxBody       int64
	maxHeaders    int
	buffer        int64
	rate, burst   int
	wait          time.Duration
	commitTimeout time.Duration
	bodyTimeout   time.Duration
}

// place is an address and how it is listened on.
type place struct {
	listen        string
	tls           tlsFiles
	maxHeader     int
	connections   int
	headerTimeout time.Duration
	idleTimeout   time.Duration
}

// tlsFiles names the files of one end of TLS.
type tlsFiles struct {
	cert, key, ca string
	minVersion    uint16
}

func (f tlsFiles) used() bool { return f.cert != "" }

func versionOf(text string) uint16 {
	if text == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

func readSource(env transports.Env, s transports.Settings) (sourceConfig, error) {
	c := sourceConfig{
		place: place{
			listen:    orDefault(s.String("listen"), defaultListen),
			tls:       tlsFiles{cert: s.String("tls_cert"), key: s.String("tls_key"), ca: s.String("tls_client_ca"), minVersion: versionOf(s.String("tls_min_version"))},
			maxHeader: int(s.Int("max_header_bytes")), connections: int(s.Int("max_connections")),
			headerTimeout: s.Duration("header_timeout"), idleTimeout: s.Duration("idle_timeout"),
		},
		path: orDefault(s.String("path"), "/"), accept: s.String("answer") == answerAccept, tokens: s.Strings("tokens"), key: s.String("key_header"),
		contentTypes: s.Strings("content_types"), maxBody: s.Int("max_body"), maxHeaders: int(s.Int("max_headers")),
		buffer: s.Int("buffer"), rate: int(s.Int("rate")), burst: int(s.Int("burst")),
		wait: s.Duration("wait"), commitTimeout: s.Duration("commit_timeout"), bodyTimeout: s.Duration("body_timeout"),
	}
	if c.burst == 0 {
		c.burst = c.rate
	}
	var errs []error
	var err error
	if c.check, err = readVerifier(s); err != nil {
		errs = append(errs, err)
	}
	for i, name := range c.contentTypes {
		media, _, err := mime.ParseMediaType(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("content_types: %q is no media type", name))
		}
		c.contentTypes[i] = media
	}
	if c.maxBody < int64(env.MaxEvent) {
		errs = append(errs, fmt.Errorf("max_body: %d bytes is less than an event may have, which is %d", c.maxBody, env.MaxEvent))
	}
	return c, errors.Join(append(errs, c.validate(), c.guarded(s.Bool("unguarded")))...)
}

func (c *sourceConfig) validate() error {
	var errs []error
	for _, n := range []struct {
		name  string
		value int64
		least int64
	}{
		{"max_header_bytes", int64(c.maxHeader), 1 << 10},
		{"max_headers", int64(c.maxHeaders), 1},
		{"max_connections", int64(c.connections), 1},
		{"buffer", c.buffer, c.maxBody},
		{"rate", int64(c.rate), 0},
		{"burst", int64(c.burst), 0},
		{"wait", int64(c.wait), 0},
		{"commit_timeout", int64(c.commitTimeout), 1},
		{"header_timeout", int64(c.headerTimeout), 1},
		{"body_timeout", int64(c.bodyTimeout), 1},
		{"idle_timeout", int64(c.idleTimeout), 1},
	} {
		switch {
		case n.value >= n.least:
		case n.name == "buffer":
			errs = append(errs, fmt.Errorf("buffer: must hold at least one body of max_body"))
		default:
			errs = append(errs, fmt.Errorf("%s: must be at least %d", n.name, n.least))
		}
	}
	if !strings.HasPrefix(c.path, "/") || strings.ContainsAny(c.path, "?#{} ") {
		errs = append(errs, fmt.Errorf("path: %q must begin with / and have no query, braces or spaces", c.path))
	}
	if (c.tls.cert == "") != (c.tls.key == "") {
		errs = append(errs, errors.New("tls_cert and tls_key: one needs the other"))
	}
	if c.key != "" && !isToken(c.key) {
		errs = append(errs, fmt.Errorf("key_header: %q is no name of a header", c.key))
	}
	if c.tls.ca != "" && !c.tls.used() {
		errs = append(errs, errors.New("tls_client_ca: needs tls_cert and tls_key"))
	}
	for _, token := range c.tokens {
		if token == "" || strings.ContainsAny(token, " \t\r\n") {
			errs = append(errs, errors.New("tokens: one is empty or has white space in it"))
		}
	}
	return errors.Join(errs...)
}

// guarded refuses what would let anybody in reach put events in (I13).
func (c *sourceConfig) guarded(unguarded bool) error {
	host, _, err := net.SplitHostPort(c.listen)
	if err != nil {
		return fmt.Errorf("listen: %q is no address such as 127.0.0.1:8080 or :8080", c.listen)
	}
	ip := net.ParseIP(host)
	if unguarded || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	var missing []string
	if !c.tls.used() {
		missing = append(missing, "TLS (tls_cert, tls_key)")
	}
	if len(c.tokens) == 0 && c.check == nil && c.tls.ca == "" {
		missing = append(missing, "credentials (tokens, secrets or tls_client_ca)")
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("listen: others can reach %s, which has no %s; say unguarded: true where something in front looks after that", c.listen, strings.Join(missing, " and no "))
}

func readVerifier(s transports.Settings) (*verifier, error) {
	kind := orDefault(s.String("signature"), signatureNone)
	secrets, err := readSecrets("secrets", s.Strings("secrets"))
	switch {
	case err != nil:
		return nil, err
	case kind == signatureNone && len(secrets) > 0:
		return nil, errors.New("secrets: have no meaning without signature")
	case kind == signatureNone:
		return nil, nil
	case len(secrets) == 0:
		return nil, fmt.Errorf("signature: %s needs secrets", kind)
	}
	v := &verifier{secrets: secrets, header: s.String("signature_header"), algorithm: s.String("signature_algorithm"), webhook: kind == signatureWebhook}
	if !isToken(v.header) {
		return nil, fmt.Errorf("signature_header: %q is no name of a header", v.header)
	}
	return v, nil
}

// secretPrefix marks secrets in base64, as Standard Webhooks has them.
const secretPrefix = "whsec_"

func readSecrets(name string, list []string) (secrets [][]byte, err error) {
	for _, text := range list {
		secret := []byte(text)
		if encoded, ok := strings.CutPrefix(text, secretPrefix); ok {
			if secret, err = base64.StdEncoding.DecodeString(encoded); err != nil {
				return nil, fmt.Errorf("%s: what stands behind %s is no base64", name, secretPrefix) // never the secret itself
			}
		}
		if len(secret) == 0 {
			return nil, fmt.Errorf("%s: one is empty", name)
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// sinkConfig is what configuration says of a sink, checked.
type sinkConfig struct {
	url            *url.URL // an x stands for each placeholder
	shape          string   // the same as it was written
	openURL        bool     // it has placeholders
	method, mode   string
	contentType    string
	headers        nethttp.Header // as events without placeholders have them
	lines          []string       // the same as they were written
	openHeaders    []string       // names of those with placeholders
	token          string
	secrets        [][]byte
	keyHeader      string // of the idempotency key
	orderHeader    string // of the key, "" = none
	timeout        time.Duration
	connectTimeout time.Duration
	concurrency    int
	batchBytes     int
	tls            tlsFiles
	serverName     string
}

func readSink(s transports.Settings) (sinkConfig, error) {
	c := sinkConfig{
		method: orDefault(s.String("method"), "POST"), mode: orDefault(s.String("mode"), modeOriginal),
		contentType: s.String("content_type"), headers: nethttp.Header{}, token: s.String("token"),
		keyHeader: orDefault(s.String("idempotency_header"), keyHeader), orderHeader: s.String("key_header"),
		timeout: s.Duration("timeout"), connectTimeout: s.Duration("connect_timeout"),
		concurrency: int(s.Int("concurrency")), batchBytes: int(s.Int("batch_bytes")),
		tls:        tlsFiles{cert: s.String("tls_cert"), key: s.String("tls_key"), ca: s.String("tls_ca"), minVersion: versionOf(s.String("tls_min_version"))},
		serverName: s.String("tls_server_name"),
	}
	var errs []error
	err := c.readURL(s.String("url"))
	if c.url == nil {
		return c, err
	}
	errs = append(errs, err)
	if c.secrets, err = readSecrets("signing_secrets", s.Strings("signing_secrets")); err != nil {
		errs = append(errs, err)
	}
	for _, line := range s.Strings("headers") {
		errs = append(errs, c.addHeader(line))
	}
	return c, errors.Join(append(errs, c.validate())...)
}

// ownHeaders are those that a sink sets by itself.
var ownHeaders = []string{"Content-Length", "Content-Type", "Transfer-Encoding", "Host", "Connection", webhookID, webhookTime, webhookSign}

func (c *sinkConfig) addHeader(line string) error {
	c.lines = append(c.lines, line)
	if name, _, _ := strings.Cut(line, ":"); strings.Contains(name, "<") {
		return errors.New("headers: a placeholder may stand in a header's value, never in its name")
	}
	line, open := shapeOf(line)
	name, value, ok := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	name = nethttp.CanonicalHeaderKey(strings.TrimSpace(name))
	switch {
	case !ok || !isToken(name) || !isFieldValue(value):
		return errors.New("headers: each must be Name: value in printable ASCII") // it may hold a secret
	case slices.Contains(ownHeaders, name) || name == nethttp.CanonicalHeaderKey(c.keyHeader) || strings.HasPrefix(name, "Ce-"):
		return fmt.Errorf("headers: %s is set by the sink itself", name)
	case name == "Authorization" && c.token != "":
		return errors.New("headers: Authorization and token exclude each other")
	}
	c.headers.Add(name, value)
	if open {
		c.openHeaders = append(c.openHeaders, name)
	}
	return nil
}

func (c *sinkConfig) validate() error {
	var errs []error
	if c.concurrency < 1 || c.concurrency > maxIdleConns {
		errs = append(errs, fmt.Errorf("concurrency: must be from 1 to %d", maxIdleConns))
	}
	if c.timeout <= 0 || c.connectTimeout <= 0 {
		errs = append(errs, errors.New("timeout, connect_timeout: must be more than 0"))
	}
	if c.batchBytes < 1 {
		errs = append(errs, errors.New("batch_bytes: must be at least 1"))
	}
	if !isToken(c.keyHeader) {
		errs = append(errs, fmt.Errorf("idempotency_header: %q is no name of a header", c.keyHeader))
	}
	if c.orderHeader != "" && (!isToken(c.orderHeader) || c.mode == modeBatch) {
		errs = append(errs, fmt.Errorf("key_header: %q is no name of a header, or the mode is batch, where events have several keys", c.orderHeader))
	}
	if _, _, err := mime.ParseMediaType(c.contentType); err != nil {
		errs = append(errs, fmt.Errorf("content_type: %q is no media type", c.contentType))
	}
	if !isFieldValue(c.token) {
		errs = append(errs, errors.New("token: has what no header may hold"))
	}
	if (c.tls.cert == "") != (c.tls.key == "") {
		errs = append(errs, errors.New("tls_cert and tls_key: one needs the other"))
	}
	if c.url.Scheme == "http" && (c.tls.cert != "" || c.tls.ca != "" || c.serverName != "") {
		errs = append(errs, errors.New("url: is http://, where TLS settings have no meaning"))
	}
	return errors.Join(errs...)
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// isToken says whether a text may be a header's name.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// isFieldValue says whether a text may be a header's value as it stands.
func isFieldValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
