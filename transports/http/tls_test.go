package http

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	nethttp "net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/transports"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(raw)
	must(t, err)
	a := &authority{t: t, dir: t.TempDir(), key: key, cert: cert}
	a.write("ca.pem", "CERTIFICATE", raw)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// write replaces a file with another time of change, as a rotation does.
func (a *authority) write(name, kind string, raw []byte) {
	a.t.Helper()
	must(a.t, os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600))
}

// issue writes NAME.pem and NAME.key.
func (a *authority) issue(name string, serial int64) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"receiver.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(a.t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(a.t, err)
	a.write(name+".key", "PRIVATE KEY", pkcs8)
	a.write(name+".pem", "CERTIFICATE", raw)
}

// TestTLS sends from a sink to a source over TLS with certificates on both ends; who
// lacks one, or has one of somebody else, does not get in (I13). Fatal comes at once.
func TestTLS(t *testing.T) {
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	ours.issue("server", 2)
	ours.issue("client", 3)
	others.issue("client", 4)
	b := openBench(t, transports.Settings{
		"tls_cert": ours.path("server.pem"), "tls_key": ours.path("server.key"), "tls_client_ca": ours.path("ca.pem"), "tls_min_version": "1.3",
	})
	got := b.engine(nil)
	url := "https://" + b.transport.Addr("in") + "/"
	for _, c := range []struct {
		name string
		set  transports.Settings
		want transports.Class
	}{
		{"both", transports.Settings{"tls_ca": ours.path("ca.pem"), "tls_cert": ours.path("client.pem"), "tls_key": ours.path("client.key")}, transports.OK},
		{"by name", transports.Settings{"tls_ca": ours.path("ca.pem"), "tls_cert": ours.path("client.pem"), "tls_key": ours.path("client.key"), "tls_server_name": "receiver.test"}, transports.OK},
		{"another name", transports.Settings{"tls_ca": ours.path("ca.pem"), "tls_cert": ours.path("client.pem"), "tls_key": ours.path("client.key"), "tls_server_name": "other.test"}, transports.Fatal},
		{"another authority", transports.Settings{"tls_ca": others.path("ca.pem")}, transports.Fatal},
		{"the system's authorities", nil, transports.Fatal},
	} {
		s := openTestSink(t, url, c.set)
		if r := writeAll(s, transports.Entry{ID: "1", Data: []byte(`{}`)})[0]; r.Class != c.want {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
	}
	for name, set := range map[string]transports.Settings{
		"no client certificate": {"tls_ca": ours.path("ca.pem")},
		"another's certificate": {"tls_ca": ours.path("ca.pem"), "tls_cert": others.path("client.pem"), "tls_key": others.path("client.key")},
	} {
		// With TLS 1.3 a client learns of it only when it reads.
		if r := writeAll(openTestSink(t, url, set), transports.Entry{ID: "1", Data: []byte(`{}`)})[0]; r.Class == transports.OK {
			t.Errorf("I13: %s got in", name)
		}
	}
	old := &nethttp.Client{Transport: &nethttp.Transport{TLSClientConfig: &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}}} //nolint:gosec // it must fail for another reason
	if _, err := old.Get(url); err == nil {
		t.Error("TLS 1.2 got in")
	}
	if n := len(got.events()); n != 2 {
		t.Errorf("%d events came, want 2", n)
	}
}

// TestCertificatesAreReadAgain: on both ends, when the files change; bad files leave
// the last good ones.
func TestCertificatesAreReadAgain(t *testing.T) {
	a := newAuthority(t, "a")
	a.issue("server", 2)
	files, err := openTLS(tlsFiles{cert: a.path("server.pem"), key: a.path("server.key")}, slog.New(slog.DiscardHandler))
	must(t, err)
	serial := func() int64 {
		t.Helper()
		config, err := files.serverConfig().GetConfigForClient(nil)
		must(t, err)
		leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
		must(t, err)
		return leaf.SerialNumber.Int64()
	}
	if n := serial(); n != 2 {
		t.Fatalf("serial %d", n)
	}
	a.issue("server", 7)
	until(t, "the new certificate", func() bool { return serial() == 7 })
	must(t, os.WriteFile(a.path("server.key"), []byte("junk"), 0o600))
	looked := time.Now().Add(certEvery + 100*time.Millisecond)
	until(t, "a look at the bad key", func() bool {
		if n := serial(); n != 7 {
			t.Fatalf("serial %d with a bad key", n)
		}
		return time.Now().After(looked)
	})

	a.issue("server", 8)
	b := openBench(t, transports.Settings{"tls_cert": a.path("server.pem"), "tls_key": a.path("server.key")})
	b.engine(nil)
	s := openTestSink(t, "https://"+b.transport.Addr("in"), transports.Settings{"tls_ca": a.path("ca.pem")})
	if r := writeAll(s, transports.Entry{ID: "1", Data: []byte(`{}`)})[0]; r.Class != transports.OK {
		t.Fatal(r)
	}
	before := s.client
	other := newAuthority(t, "other")
	raw, err := os.ReadFile(other.path("ca.pem"))
	must(t, err)
	must(t, os.WriteFile(a.path("ca.pem"), append(raw, '\n'), 0o600))
	until(t, "the new authorities", func() bool {
		r := writeAll(s, transports.Entry{ID: "1", Data: []byte(`{}`)})[0]
		return r.Class == transports.Fatal
	})
	if s.client == before {
		t.Error("the client is the same")
	}
}

// TestTLSFilesAreLookedAtWhenOpened: a mistake shows at once, with the file's name.
func TestTLSFilesAreLookedAtWhenOpened(t *testing.T) {
	a := newAuthority(t, "a")
	a.issue("server", 2)
	for _, set := range []transports.Settings{
		{"tls_cert": a.path("none.pem"), "tls_key": a.path("server.key")},
		{"tls_cert": a.path("server.pem"), "tls_key": a.path("ca.pem")},
		{"tls_cert": a.path("server.pem"), "tls_key": a.path("server.key"), "tls_client_ca": a.path("server.key")},
	} {
		set["listen"] = "127.0.0.1:0"
		s, err := New().NewSource(testEnv(t, "in"), settings(sourceOptions(), set))
		must(t, err)
		if err := s.Open(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), a.dir) {
			t.Errorf("%v: %v", set, err)
		}
		must(t, s.Close(context.Background()))
	}
}
