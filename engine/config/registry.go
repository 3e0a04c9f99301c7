package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	"github.com/weir-project/weir/engine/registry"
)

func (f *file) registryReader() reader {
	r := &f.plan.Registry
	var codec, token *node
	inner := object(
		member{name: "url", required: true, doc: "Address of the list of services, http or https.", reader: text(&r.URL)},
		member{name: "every", doc: "Between looks; default 30s.", reader: duration(&r.Every, time.Second, 24*time.Hour)},
		member{name: "timeout", doc: "For an answer; default 10s.", reader: duration(&r.Timeout, time.Millisecond, time.Minute)},
		member{name: "token", doc: "Bearer token; by reference only.", reader: noted(text(&r.Token), &token)},
		member{name: "max", doc: "Largest answer; default 1MiB.", reader: size(&r.Max, 1<<10, 16<<20)},
		member{name: "from", required: true, doc: "Sources whose events services may get.", reader: f.names(&r.From, "source")},
		member{name: "codec", doc: "Envelope in which services get events; default eventhub.", reader: f.codecReader(&r.Codec, &codec)},
	)
	read := inner.read
	inner.read = func(fs *findings, n *node, path string) {
		r.Every, r.Timeout, r.Max, r.Codec = DefaultRegistryEvery, DefaultRegistryTimeout, DefaultRegistryMax, []string{"eventhub"}
		read(fs, n, path)
		if u, err := url.Parse(r.URL); r.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil) {
			fs.add(f.placeOf(path+".url", n), path+".url", "is no address", "http:// or https:// with a host, and without credentials")
		}
		if token != nil {
			f.checkSecret(token, path+".token")
		}
		f.checkSinkCodec(&Sink{Codec: r.Codec}, codec, path)
	}
	return inner
}

// noted keeps the node that a reader reads.
func noted(r reader, at **node) reader {
	read := r.read
	r.read = func(fs *findings, n *node, path string) {
		*at = n
		read(fs, n, path)
	}
	return r
}

// readRegistered reads the last good list of services, which stands in the data folder
// as a part of the configuration. There is none before the registry answered first.
func (f *file) readRegistered() {
	if f.plan.Registry.URL == "" {
		return
	}
	name := filepath.Join(f.plan.Node.Data, registry.File)
	data, err := f.files.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.add(f.places["registry"], "registry", fmt.Sprintf("%s cannot be read: %v", name, cause(err)), "")
	default:
		if root := f.parse(name, data); root != nil {
			f.partReader().read(f.findings, root, "")
		}
	}
}
