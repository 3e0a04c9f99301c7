package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// validate checks a value against the parts of JSON Schema that Schema uses,
// and fails on any other, so that nothing in it goes unchecked.
func validate(s map[string]any, v any, path string) error {
	for keyword, arg := range s {
		check, ok := keywords[keyword]
		if !ok {
			return fmt.Errorf("%s: the schema has keyword %s, which this test does not know", path, keyword)
		}
		if err := check(s, arg, v, path); err != nil {
			return err
		}
	}
	return nil
}

var keywords map[string]func(s map[string]any, arg, v any, path string) error

func init() {
	ignore := func(map[string]any, any, any, string) error { return nil }
	keywords = map[string]func(s map[string]any, arg, v any, path string) error{
		"$schema": ignore, "title": ignore, "description": ignore, "default": ignore,
		"type": checkType, "enum": checkEnum, "const": checkConst, "pattern": checkPattern,
		"minimum": checkMinimum, "maximum": checkMaximum,
		"properties": checkProperties, "additionalProperties": checkAdditional,
		"propertyNames": checkPropertyNames, "required": checkRequired,
		"items": checkItems, "anyOf": checkAnyOf, "oneOf": checkOneOf,
	}
}

func checkType(_ map[string]any, arg, v any, path string) error {
	types := []any{arg}
	if l, ok := arg.([]any); ok {
		types = l
	}
	have := "null"
	switch x := v.(type) {
	case string:
		have = "string"
	case bool:
		have = "boolean"
	case []any:
		have = "array"
	case map[string]any:
		have = "object"
	case float64:
		if have = "number"; x == math.Trunc(x) {
			have = "integer"
		}
	}
	if !slices.Contains(types, any(have)) && (have != "integer" || !slices.Contains(types, any("number"))) {
		return fmt.Errorf("%s: is a %s, not %v", path, have, arg)
	}
	return nil
}

func checkEnum(_ map[string]any, arg, v any, path string) error {
	if !slices.ContainsFunc(arg.([]any), func(a any) bool { return reflect.DeepEqual(a, v) }) {
		return fmt.Errorf("%s: %v is not one of %v", path, v, arg)
	}
	return nil
}

func checkConst(_ map[string]any, arg, v any, path string) error {
	if !reflect.DeepEqual(arg, v) {
		return fmt.Errorf("%s: %v is not %v", path, v, arg)
	}
	return nil
}

func checkPattern(_ map[string]any, arg, v any, path string) error {
	if text, ok := v.(string); ok && !regexp.MustCompile(arg.(string)).MatchString(text) {
		return fmt.Errorf("%s: %q does not match %s", path, text, arg)
	}
	return nil
}

func checkMinimum(_ map[string]any, arg, v any, path string) error {
	if n, ok := v.(float64); ok && n < arg.(float64) {
		return fmt.Errorf("%s: %v is below %v", path, n, arg)
	}
	return nil
}

func checkMaximum(_ map[string]any, arg, v any, path string) error {
	if n, ok := v.(float64); ok && n > arg.(float64) {
		return fmt.Errorf("%s: %v is above %v", path, n, arg)
	}
	return nil
}

func checkProperties(_ map[string]any, arg, v any, path string) error {
	members, _ := v.(map[string]any)
	for name, s := range arg.(map[string]any) {
		if value, ok := members[name]; ok {
			if err := validate(s.(map[string]any), value, path+"."+name); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkAdditional(s map[string]any, arg, v any, path string) error {
	members, _ := v.(map[string]any)
	known, _ := s["properties"].(map[string]any)
	for name, value := range members {
		if _, ok := known[name]; ok {
			continue
		}
		inner, ok := arg.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: unknown member %s", path, name)
		}
		if err := validate(inner, value, path+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func checkPropertyNames(_ map[string]any, arg, v any, path string) error {
	members, _ := v.(map[string]any)
	for name := range members {
		if err := validate(arg.(map[string]any), name, path); err != nil {
			return err
		}
	}
	return nil
}

func checkRequired(_ map[string]any, arg, v any, path string) error {
	members, ok := v.(map[string]any)
	for _, name := range arg.([]any) {
		if _, there := members[name.(string)]; ok && !there {
			return fmt.Errorf("%s: %s is missing", path, name)
		}
	}
	return nil
}

func checkItems(_ map[string]any, arg, v any, path string) error {
	items, _ := v.([]any)
	for i, item := range items {
		if err := validate(arg.(map[string]any), item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	return nil
}

func checkAnyOf(_ map[string]any, arg, v any, path string) error {
	var all []error
	for _, s := range arg.([]any) {
		err := validate(s.(map[string]any), v, path)
		if err == nil {
			return nil
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

func checkOneOf(_ map[string]any, arg, v any, path string) error {
	count := 0
	for _, s := range arg.([]any) {
		if validate(s.(map[string]any), v, path) == nil {
			count++
		}
	}
	if count != 1 {
		return fmt.Errorf("%s: %d of the alternatives fit, not one", path, count)
	}
	return nil
}

func testSchema(t *testing.T) map[string]any {
	t.Helper()
	var s map[string]any
	if err := json.Unmarshal(Schema(testTransports(), []string{"wasm"}), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// generic reads YAML as an editor would, into JSON's types.
func generic(t *testing.T, text []byte) (any, error) {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out any
	return out, json.Unmarshal(asJSON, &out)
}

// accepted are configurations that Load takes, spelled in many ways.
var accepted = []string{
	minimal,
	minimal + "node:\njournal:\ninclude:\ndead_letters:\nunmatched:\nplugins:\n",
	minimal + "node: {lanes: \"${N}\", limits: {in_flight: 5_000, event: 1048576}, admin: {}}\n",
	minimal + "dead_letters: false\n",
	minimal + "dead_letters: true\n",
	minimal + "dead_letters: {keep: 1d12h}\n",
	minimal + "journal: {keep: 90m, max: 1.5GB, to: out}\n",
	minimal + "unmatched: [out]\n",
	minimal + "plugins: {p: {wasm: plugins/vip.wasm, config: [1, {a: null}], on_error: pass, limits: {timeout: 5s}}}\n",
	strings.Replace(minimal, "in: {memory: {}", "in: {memory: , dedup: true, expire: false, codec: [eventbridge, attributes], state: per_node", 1),
	strings.Replace(minimal, "in: {memory: {}", "in: {file: {path: x, follow: \"${YES}\", format: \"${FORMAT}\"}, dedup:, expire:", 1),
	strings.Replace(minimal, "out: {memory: {}", "out: {webhook: {url: x, secret: \"${N}\", retries: -1, timeout: 0, headers: one}, batch: {wait: 0}", 1),
	strings.Replace(minimal, "{to: out}", "{to: [out], from: in, when: '{\"type\":[\"x\"]}'}", 1),
}

func TestSchemaAcceptsWhatLoadAccepts(t *testing.T) {
	s := testSchema(t)
	env := map[string]string{"N": "7", "YES": "true", "FORMAT": "array"}
	for _, file := range []string{"testdata/example/weir.yaml", "testdata/example/routes/more.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v, err := generic(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(s, v, ""); err != nil {
			t.Errorf("the schema refuses %s: %v", file, err)
		}
	}
	for _, text := range accepted {
		if _, err := Load(testOptions(text, env)); err != nil {
			t.Errorf("Load refuses:\n%s%v", text, err)
		}
		v, err := generic(t, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(s, v, ""); err != nil {
			t.Errorf("the schema refuses what Load accepts:\n%s%v", text, err)
		}
	}
}

// TestSchemaRefuses shows that the schema is no empty promise: mistakes in
// types and keys, which it can see, are refused.
func TestSchemaRefuses(t *testing.T) {
	s := testSchema(t)
	for _, file := range []string{"types.yaml", "keys.yaml", "node.yaml", "list.yaml", "late.json"} {
		text, err := os.ReadFile(filepath.Join("testdata/bad", file))
		if err != nil {
			t.Fatal(err)
		}
		v, err := generic(t, text)
		if err == nil {
			err = validate(s, v, "")
		}
		if err == nil {
			t.Errorf("the schema accepts %s", file)
		}
	}
	for _, text := range []string{
		strings.Replace(minimal, "memory", "memry", 1),
		strings.Replace(minimal, "{memory: {}}", "{memory: {}, file: {path: x}}", 1),
		minimal + "node: {lanes: 2000}\n",
		minimal + "journal: {keep: forever}\n",
		minimal + "plugins: {p: {}}\n",
		minimal + "fences: {}\n",
		strings.Replace(minimal, "{memory: {}}", "{webhook: {url: x}}", 1),
		strings.Replace(minimal, "out: {memory: {}}", "out: {webhook: {url: x, secret: open}}", 1),
	} {
		v, err := generic(t, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if validate(s, v, "") == nil {
			t.Errorf("the schema accepts:\n%s", text)
		}
		if _, err := Load(testOptions(text, nil)); err == nil {
			t.Errorf("Load accepts:\n%s", text)
		}
	}
}
