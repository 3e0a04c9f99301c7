package http

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificates are the files of one end of TLS, read again when they change. A file
// that cannot be read then leaves the last good ones in place.
type certificates struct {
	files tlsFiles
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	looked time.Time
	stamps [3]stamp
	own    *tls.Certificate // nil where none is configured
	pool   *x509.CertPool   // nil where no authorities are configured
	number int              // grows with each change
}

// stamp tells one content of a file from another.
type stamp struct {
	size int64
	at   time.Time
}

func openTLS(files tlsFiles, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: files, log: log}
	stamps, err := c.look()
	if err != nil {
		return nil, err
	}
	c.stamps, c.looked = stamps, time.Now()
	return c, c.read()
}

func (c *certificates) look() (stamps [3]stamp, err error) {
	for i, name := range []string{c.files.cert, c.files.key, c.files.ca} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return stamps, fmt.Errorf("certificates: %w", err)
		}
		stamps[i] = stamp{info.Size(), info.ModTime()}
	}
	return stamps, nil
}

// read takes the files in, all or none. The caller holds mu, or is the only one.
func (c *certificates) read() error {
	var own *tls.Certificate
	var pool *x509.CertPool
	if c.files.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.files.cert, c.files.key)
		if err != nil {
			return fmt.Errorf("certificate %s, key %s: %w", c.files.cert, c.files.key, err)
		}
		own = &pair
	}
	if c.files.ca != "" {
		pem, err := os.ReadFile(c.files.ca)
		if err != nil {
			return fmt.Errorf("authorities: %w", err)
		}
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return fmt.Errorf("authorities %s: no certificate in it", c.files.ca)
		}
	}
	c.own, c.pool = own, pool
	c.number++
	return nil
}

// current returns what stands in the files, which are looked at once in a while.
func (c *certificates) current() (own *tls.Certificate, pool *x509.CertPool, number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= certEvery {
		c.looked = now
		c.renew()
	}
	return c.own, c.pool, c.number
}

// renew reads changed files. The caller holds mu.
func (c *certificates) renew() {
	stamps, err := c.look()
	if err == nil && stamps == c.stamps {
		return
	}
	if err == nil {
		err = c.read()
	}
	if err != nil {
		c.log.Warn("certificates changed and are no good; the last ones stay", "error", err)
		return // a key that comes after its certificate is seen at the next look
	}
	c.stamps = stamps
	c.log.Info("certificates were read again", "certificate", c.files.cert, "authorities", c.files.ca)
}

// serverConfig asks for the files at each handshake.
func (c *certificates) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion: c.files.minVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			own, pool, _ := c.current()
			config := &tls.Config{MinVersion: c.files.minVersion, Certificates: []tls.Certificate{*own}, NextProtos: []string{"h2", "http/1.1"}}
			if pool != nil {
				config.ClientCAs, config.ClientAuth = pool, tls.RequireAndVerifyClientCert
			}
			return config, nil
		},
	}
}

// configure sets a client's files as they stand now, and says which state that is.
func (c *certificates) configure(config *tls.Config) (number int) {
	own, pool, number := c.current()
	config.RootCAs = pool
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	return number
}

// look says whether the files are good, where there are any.
func (f tlsFiles) look(log *slog.Logger) error {
	if f.cert == "" && f.ca == "" {
		return nil
	}
	_, err := openTLS(f, log)
	return err
}

// Look implements transports.Looker.
func (s *source) Look() error { return s.cfg.tls.look(s.env.Log) }

// Look implements transports.Looker.
func (s *sink) Look() error { return s.cfg.tls.look(s.env.Log) }
