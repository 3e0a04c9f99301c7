package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// Tree is a configuration as a Go literal: the same keys as in a file.
//
//	config.Tree{
//		"version": 1,
//		"node":    config.Tree{"data": "/var/lib/shop"},
//		"sources": config.Tree{"orders": config.Tree{"program": config.Tree{}, "dedup": config.Tree{"window": 10 * time.Minute}}},
//		"routes":  config.Tree{"all": config.Tree{"to": []string{"kitchen"}}},
//		"sinks":   config.Tree{"kitchen": config.Tree{"program": config.Tree{}}},
//	}
//
// Values are what encoding/json takes, and time.Duration; sizes are texts such as
// "16MiB", patterns are trees or json.RawMessage. Text is what it says: a dollar is a
// dollar, and a secret may stand in it. It is checked as a file is; mistakes name the
// key, and have no line. Relative paths start at the working directory.
type Tree map[string]any

// maxTreeDepth bounds how deep a Tree goes: one that holds itself has no end.
const maxTreeDepth = 100

// text writes the tree as the JSON file that would mean the same.
func (t Tree) text() ([]byte, error) {
	plain, err := plainValue(reflect.ValueOf(t), "", 0)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return text, nil
}

// plainValue turns what a file has no type for into what a file would say.
func plainValue(v reflect.Value, path string, depth int) (any, error) {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if depth > maxTreeDepth {
		return nil, fmt.Errorf("configuration: %s is deeper than %d", path, maxTreeDepth)
	}
	if !v.IsValid() {
		return nil, nil
	}
	if d, ok := v.Interface().(time.Duration); ok {
		return formatDuration(d), nil
	}
	if _, ok := v.Interface().(json.Marshaler); ok {
		return v.Interface(), nil
	}
	switch {
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		out := map[string]any{}
		for _, k := range v.MapKeys() {
			inner, err := plainValue(v.MapIndex(k), join(path, k.String()), depth+1)
			if err != nil {
				return nil, err
			}
			out[k.String()] = inner
		}
		return out, nil
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		out := []any{}
		for i := range v.Len() {
			inner, err := plainValue(v.Index(i), fmt.Sprintf("%s[%d]", path, i), depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, inner)
		}
		return out, nil
	}
	return v.Interface(), nil
}

// withoutPlaces takes away where mistakes stand in a text that nobody wrote.
func withoutPlaces(list []Mistake, file string) []Mistake {
	for i := range list {
		if list[i].File == file {
			list[i].File, list[i].Line, list[i].Column = "", 0, 0
		}
	}
	return list
}
