package config

import (
	"fmt"
	"net"
	"strings"
)

// minToken is the shortest token that nobody guesses, in bytes.
const minToken = 16

// hostNames reads names of this instance: a list, or one text with commas, as the
// environment gives it.
func hostNames(dst *[]string) reader {
	list := texts(dst, nil)
	return withCheck(reader{
		read: func(f *findings, n *node, path string) {
			if n.isText() {
				*dst = strings.FieldsFunc(n.text, func(c rune) bool { return c == ',' || c == ' ' })
				if len(*dst) == 0 {
					*dst = nil
				}
				return
			}
			list.read(f, n, path)
		},
		schema: list.schema,
	}, func(f *findings, n *node, path string) {
		for _, h := range *dst {
			if strings.ContainsAny(h, "*/@ ") || strings.Contains(h, "://") {
				f.add(n.at, path, fmt.Sprintf("%q is not a name of a host", h), "such as weir.example.com, without port or scheme")
			}
		}
	})
}

// checkAdmin refuses an API that anybody could use (I13).
func (f *file) checkAdmin(section *node) {
	admin := &f.plan.Node.Admin
	admin.TLS.Cert, admin.TLS.Key = absolute(f.dir, admin.TLS.Cert), absolute(f.dir, admin.TLS.Key)
	admin.TLS.ClientCA = absolute(f.dir, admin.TLS.ClientCA)
	at := func(path string) place { return f.placeOf(path, section) }
	if (admin.TLS.Cert == "") != (admin.TLS.Key == "") {
		f.add(at("node.admin.tls"), "node.admin.tls", "cert and key go together: one is missing", "")
	}
	if admin.TLS.ClientCA != "" && admin.TLS.Cert == "" {
		f.add(at("node.admin.tls.client_ca"), "node.admin.tls.client_ca", "has no effect without cert and key", "")
	}
	if admin.Listen == "" {
		return
	}
	host, _, err := net.SplitHostPort(admin.Listen)
	if err != nil {
		f.add(at("node.admin.listen"), "node.admin.listen", "not an address host:port", "such as 127.0.0.1:8080")
		return
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && admin.TLS.Cert == "" {
		f.add(at("node.admin.listen"), "node.admin.listen", "not a loopback address: that needs TLS",
			"tls: {cert: ..., key: ...}, or listen on 127.0.0.1")
	}
	switch {
	case admin.Token == "":
		f.add(at("node.admin.listen"), "node.admin.token", "is missing: an API over TCP needs one", "token: ${WEIR_TOKEN}")
	case len(admin.Token) < minToken:
		f.add(at("node.admin.token"), "node.admin.token", fmt.Sprintf("is shorter than %d bytes: it could be guessed", minToken), "such as the output of: openssl rand -hex 24")
	}
}
