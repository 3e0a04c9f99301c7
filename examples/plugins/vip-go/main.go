// Command vip-go is a Weir filter: it lets orders of at least min_total through.
package main

import weir "github.com/weir-project/weir/sdk/go"

const (
	slotType = iota // in the order of the manifest's fields
	slotTotal
)

func init() { weir.Filter(open) }

func open(config weir.Config) (func(*weir.Event) bool, error) {
	minTotal, err := config.Number("min_total", 100)
	if err != nil {
		return nil, err
	}
	prefix, err := config.Text("type_prefix", "Order")
	if err != nil {
		return nil, err
	}
	return func(e *weir.Event) bool {
		kind, ok := e.Text(slotType)
		if !ok || !kind.HasPrefix(prefix) {
			return false
		}
		total, ok := e.Number(slotTotal)
		return ok && total >= minTotal
	}, nil
}

func main() {}
