package http

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	nethttp "net/http"
	"time"

	"github.com/weir-project/weir/transports"
)

// probeLimit is how long a receiver may take for a connection and its TLS.
const probeLimit = 5 * time.Second

var _ transports.Prober = (*sink)(nil)

// Probe implements transports.Prober: it connects, does the TLS handshake with the
// configured certificates, and sends no request. Where a proxy stands in between only
// that is reached, since all further needs a request. Sources have no such power: they
// wait for others, and their address may well be taken by the instance that runs.
func (s *sink) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	config := &tls.Config{MinVersion: s.cfg.tls.minVersion, ServerName: orDefault(s.cfg.serverName, s.cfg.url.Hostname()), NextProtos: []string{"h2", "http/1.1"}}
	if s.cfg.tls.cert != "" || s.cfg.tls.ca != "" {
		certs, err := openTLS(s.cfg.tls, s.env.Log)
		if err != nil {
			return err
		}
		certs.configure(config)
	}
	at := s.cfg.url
	proxy, err := nethttp.ProxyFromEnvironment(&nethttp.Request{URL: at})
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if proxy != nil {
		at = proxy
	}
	port := at.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[at.Scheme]
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(at.Hostname(), port))
	if err != nil {
		return err
	}
	defer conn.Close()
	if proxy != nil || at.Scheme != "https" {
		return nil
	}
	if err := tls.Client(conn, config).HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS with %s: %w", conn.RemoteAddr(), err)
	}
	return nil
}
