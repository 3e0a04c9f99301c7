package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/config"
	"github.com/weir-project/weir/examples"
)

// created is what new wrote.
type created struct {
	Dir   string   `json:"dir"`
	Files []string `json:"files"`
}

func (p *program) newCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new DIR",
		Short: "Make a working folder: a configuration, example events, a plug-in and tests",
		Long: "Make a working folder that runs at once: a configuration, example events, a filter\n" +
			"in WebAssembly with its source, tests, and schemas for editors. DIR must be new or\n" +
			"empty.",
		Args: cobra.ExactArgs(1),
		RunE: p.action(func(_ context.Context, _ *cobra.Command, args []string) (answer, error) {
			dir := args[0]
			if err := mustBeEmpty(dir); err != nil {
				return answer{}, err
			}
			files, err := p.starter()
			if err != nil {
				return answer{}, err
			}
			c := created{Dir: dir, Files: []string{}}
			for name := range files {
				c.Files = append(c.Files, name)
			}
			slices.Sort(c.Files)
			for _, name := range c.Files {
				if err := writeNew(filepath.Join(dir, filepath.FromSlash(name)), files[name]); err != nil {
					return answer{result: c}, err
				}
			}
			return answer{result: c, text: c.print}, nil
		}),
	}
}

func mustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return wrongInput{err}
	case len(entries) > 0:
		return wrongInput{fmt.Errorf("%s is not empty: it holds %s", dir, entries[0].Name())}
	}
	return nil
}

// starter are the files of a new folder, by their names with slashes.
func (p *program) starter() (map[string][]byte, error) {
	files := map[string][]byte{
		".gitignore":            []byte("/weir-data/\n/out/\n"),
		"weir.schema.json":      config.Schema(p.transports, p.hostNames()),
		"weir.test.schema.json": config.TestSchema(),
	}
	take := func(from fs.FS, root string, name func(string) string) error {
		return fs.WalkDir(from, root, func(at string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(from, at)
			files[name(strings.TrimPrefix(at, root+"/"))] = data
			return err
		})
	}
	const vip = "plugins/vip-rust"
	return files, errors.Join(
		take(examples.Starter, "starter", func(s string) string { return s }),
		take(examples.Vip, vip, func(s string) string {
			if path.Ext(s) == ".wasm" {
				return "plugins/vip.wasm"
			}
			return "plugins/vip/" + s
		}),
	)
}

func writeNew(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (c created) print(w io.Writer) {
	fmt.Fprintf(w, "%s holds\n", c.Dir)
	for _, name := range c.Files {
		fmt.Fprintf(w, "  %s\n", name)
	}
	at := ""
	if c.Dir != "." {
		at = "cd " + c.Dir + " && "
	}
	fmt.Fprintf(w, "\nNext\n  %sweir test\n  weir run\n  weir queue receive kitchen --ack=false\n", at)
}
