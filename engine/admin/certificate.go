package admin

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/weir-project/weir/engine/config"
)

// certificateEvery is how often the files of the certificate are looked at, at most:
// a new one is used without a restart.
const certificateEvery = 10 * time.Second

// certificate is the server's, read again when its files change.
type certificate struct {
	files config.AdminTLS
	log   *slog.Logger
	ca    *x509.CertPool // clients must have one of theirs; nil = no client certificates

	mu      sync.Mutex // guards all below
	current *tls.Certificate
	changed [2]time.Time // of the files
	looked  time.Time
}

func newCertificate(files *config.AdminTLS, log *slog.Logger) (*certificate, error) {
	c := &certificate{files: *files, log: log}
	if files.ClientCA != "" {
		text, err := os.ReadFile(files.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("tls.client_ca: %w", err)
		}
		if c.ca = x509.NewCertPool(); !c.ca.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("tls.client_ca: %s holds no certificate in PEM form", files.ClientCA)
		}
	}
	return c, c.load()
}

func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("tls.cert %s, tls.key %s: %w", c.files.Cert, c.files.Key, err)
	}
	stamps, err := c.stamps()
	if err != nil {
		return err
	}
	c.current, c.changed, c.looked = &pair, stamps, time.Now()
	return nil
}

func (c *certificate) stamps() (at [2]time.Time, err error) {
	for i, name := range []string{c.files.Cert, c.files.Key} {
		info, err := os.Stat(name)
		if err != nil {
			return at, fmt.Errorf("tls: %w", err)
		}
		at[i] = info.ModTime()
	}
	return at, nil
}

// get returns the certificate of this moment. While a new one cannot be read, as
// between the writing of its two files, the old one goes on.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certificateEvery {
		return c.current, nil
	}
	c.looked = time.Now()
	stamps, err := c.stamps()
	if err == nil && stamps != c.changed {
		err = c.load()
	}
	if err != nil {
		c.log.Warn("admin API: the new certificate cannot be read, the old one goes on", "error", err)
	}
	return c.current, nil
}

// names are those that the certificate is for.
func (c *certificate) names() []string {
	leaf, err := x509.ParseCertificate(c.current.Certificate[0])
	if err != nil {
		return nil
	}
	var names []string
	for _, n := range leaf.DNSNames {
		if !strings.Contains(n, "*") {
			names = append(names, strings.ToLower(n))
		}
	}
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func (c *certificate) config() *tls.Config {
	t := &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if c.ca != nil {
		t.ClientCAs, t.ClientAuth = c.ca, tls.RequireAndVerifyClientCert
	}
	return t
}
