package http

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
)

// TestSettings: what does not go together is refused, all of it, naming the setting and
// never a secret.
func TestSettings(t *testing.T) {
	for _, c := range []struct {
		set  transports.Settings
		want string // "" = taken
	}{
		{transports.Settings{}, ""},
		{transports.Settings{"listen": "localhost:8080"}, ""},
		{transports.Settings{"listen": "[::1]:8080"}, ""},
		{transports.Settings{"listen": ":8080", "unguarded": true}, ""},
		{transports.Settings{"listen": ":8080", "tokens": []string{"hush"}, "tls_cert": "c", "tls_key": "k"}, ""},
		{transports.Settings{"listen": "0.0.0.0:8080", "tls_cert": "c", "tls_key": "k", "tls_client_ca": "a"}, ""},
		{transports.Settings{"listen": "8080"}, "listen: \"8080\" is no address"},
		{transports.Settings{"listen": ":8080"}, "no TLS (tls_cert, tls_key) and no credentials"},
		{transports.Settings{"listen": ":8080", "tokens": []string{"hush"}}, "has no TLS"},
		{transports.Settings{"listen": "example.test:8080", "tls_cert": "c", "tls_key": "k"}, "has no credentials"},
		{transports.Settings{"path": "orders"}, "path: \"orders\" must begin with /"},
		{transports.Settings{"path": "/a b"}, "path:"},
		{transports.Settings{"tls_cert": "c"}, "tls_cert and tls_key: one needs the other"},
		{transports.Settings{"tls_client_ca": "a"}, "tls_client_ca: needs tls_cert"},
		{transports.Settings{"secrets": []string{"hush"}}, "secrets: have no meaning without signature"},
		{transports.Settings{"signature": "body"}, "signature: body needs secrets"},
		{transports.Settings{"signature": "webhook", "secrets": []string{"whsec_hush!"}}, "secrets: what stands behind whsec_ is no base64"},
		{transports.Settings{"signature": "body", "secrets": []string{""}}, "secrets: one is empty"},
		{transports.Settings{"signature": "body", "secrets": []string{"hush"}, "signature_header": "X Y"}, "signature_header: \"X Y\""},
		{transports.Settings{"tokens": []string{"hush hush"}}, "tokens: one is empty or has white space"},
		{transports.Settings{"content_types": []string{"text/"}}, "content_types: \"text/\""},
		{transports.Settings{"key_header": "X:Y"}, "key_header: \"X:Y\""},
		{transports.Settings{"max_body": int64(10)}, "max_body: 10 bytes is less than an event may have"},
		{transports.Settings{"buffer": int64(10)}, "buffer: must hold at least one body"},
		{transports.Settings{"rate": int64(-1)}, "rate: must be at least 0"},
		{transports.Settings{"max_connections": int64(0)}, "max_connections: must be at least 1"},
		{transports.Settings{"header_timeout": time.Duration(0)}, "header_timeout: must be at least 1"},
	} {
		_, err := New().NewSource(testEnv(t, "in"), settings(sourceOptions(), c.set))
		checkSetting(t, c.set, err, c.want)
	}
	for _, c := range []struct {
		set  transports.Settings
		want string
	}{
		{transports.Settings{}, ""},
		{transports.Settings{"url": "receiver.test"}, "url: must be http://"},
		{transports.Settings{"url": "ftp://receiver.test"}, "url: must be http://"},
		{transports.Settings{"url": "https://me:hush@receiver.test"}, "url: must not hold credentials"},
		{transports.Settings{"url": "https://receiver.test/#x"}, "url: must not have a fragment"},
		{transports.Settings{"headers": []string{"no colon hush"}}, "headers: each must be Name: value"},
		{transports.Settings{"headers": []string{"X: a\r\nY: hush"}}, "headers: each must be Name: value"},
		{transports.Settings{"headers": []string{"content-type: x"}}, "headers: Content-Type is set by the sink itself"},
		{transports.Settings{"headers": []string{"ce-id: x"}}, "headers: Ce-Id is set by the sink itself"},
		{transports.Settings{"headers": []string{"Authorization: hush"}, "token": "hush"}, "headers: Authorization and token exclude each other"},
		{transports.Settings{"token": "hush\n"}, "token: has what no header may hold"},
		{transports.Settings{"concurrency": int64(0)}, "concurrency: must be from 1"},
		{transports.Settings{"timeout": time.Duration(0)}, "timeout, connect_timeout: must be more than 0"},
		{transports.Settings{"batch_bytes": int64(0)}, "batch_bytes"},
		{transports.Settings{"idempotency_header": "a b"}, "idempotency_header"},
		{transports.Settings{"key_header": "X-Key", "mode": "batch"}, "key_header"},
		{transports.Settings{"content_type": "json/"}, "content_type"},
		{transports.Settings{"tls_key": "k"}, "tls_cert and tls_key: one needs the other"},
		{transports.Settings{"url": "http://receiver.test", "tls_ca": "a"}, "url: is http://, where TLS settings have no meaning"},
	} {
		if c.set["url"] == nil {
			c.set["url"] = "https://receiver.test/hooks?x=1"
		}
		_, err := New().NewSink(testEnv(t, "out"), settings(sinkOptions(), c.set))
		checkSetting(t, c.set, err, c.want)
	}
	_, err := New().NewSource(testEnv(t, "in"), settings(sourceOptions(), transports.Settings{"path": "x", "max_headers": int64(0), "tls_cert": "c"}))
	for _, want := range []string{"path:", "max_headers:", "tls_cert and tls_key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q as well", err, want)
		}
	}
}

func checkSetting(t *testing.T, set transports.Settings, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%v: %v, want %q", set, err, want)
	case err != nil && strings.Contains(err.Error(), "hush"):
		t.Errorf("a secret is told: %v", err)
	}
}

// TestLook: certificates that a run would fail at are told before.
func TestLook(t *testing.T) {
	a := newAuthority(t, "a")
	a.issue("server", 2)
	for cert, ok := range map[string]bool{a.path("server.pem"): true, a.path("none.pem"): false} {
		set := transports.Settings{"tls_cert": cert, "tls_key": a.path("server.key")}
		source, err := New().NewSource(testEnv(t, "in"), settings(sourceOptions(), set))
		must(t, err)
		set["url"] = "https://receiver.test/"
		sink, err := New().NewSink(testEnv(t, "out"), settings(sinkOptions(), set))
		must(t, err)
		for _, end := range []any{source, sink} {
			if err := end.(transports.Looker).Look(); (err == nil) != ok {
				t.Errorf("%T with %s: %v", end, cert, err)
			}
		}
	}
}
