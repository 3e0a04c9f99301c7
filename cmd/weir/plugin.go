package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/plugins"
	"github.com/weir-project/weir/plugins/wasm"
)

func (p *program) pluginCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "plugin", Short: "Look after plug-ins", RunE: needsCommand}
	cmd.AddCommand(p.packCommand(), p.inspectCommand())
	return cmd
}

func (p *program) packCommand() *cobra.Command {
	var manifest, out string
	cmd := &cobra.Command{
		Use:   "pack MODULE --manifest FILE [-o OUT]",
		Short: "Put a manifest into a WASM module",
		Args:  cobra.ExactArgs(1),
		RunE: p.action(func(_ context.Context, _ *cobra.Command, args []string) (answer, error) {
			if out == "" {
				out = args[0]
			}
			return pack(args[0], manifest, out)
		}),
	}
	cmd.Flags().StringVar(&manifest, "manifest", "", "the manifest, a JSON file")
	cmd.Flags().StringVarP(&out, "output", "o", "", "where to write the module (default: in place)")
	if err := cmd.MarkFlagRequired("manifest"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// packed is what pack wrote.
type packed struct {
	Output string `json:"output"`
	Size   int    `json:"size"`
	Digest string `json:"digest"`
}

func pack(module, manifest, out string) (answer, error) {
	code, err := os.ReadFile(module)
	if err != nil {
		return answer{}, wrongInput{err}
	}
	text, err := os.ReadFile(manifest)
	if err != nil {
		return answer{}, wrongInput{err}
	}
	whole, err := wasm.Pack(code, text)
	if err != nil {
		return answer{}, wrongInput{fmt.Errorf("%s: %w", module, err)}
	}
	info, err := wasm.Inspect(whole)
	if err != nil {
		return answer{}, wrongInput{fmt.Errorf("%s: %w", module, err)}
	}
	if err := replaceFile(out, whole); err != nil {
		return answer{}, err
	}
	result := packed{Output: out, Size: len(whole), Digest: info.Digest}
	return answer{result: result, text: func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d bytes, digest %s\n", out, result.Size, result.Digest)
		for _, problem := range info.Problems {
			fmt.Fprintf(w, "a host would refuse it: %s\n", problem)
		}
	}}, nil
}

// replaceFile writes a file whole or not at all: a running engine may be
// watching it.
func replaceFile(name string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".weir-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", name, err), os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// inspected is wasm.Info with the names that --json uses elsewhere.
type inspected struct {
	Digest    string            `json:"digest"`
	Size      int               `json:"size"`
	Manifest  *plugins.Manifest `json:"manifest"`
	Imports   []string          `json:"imports"`
	Exports   []string          `json:"exports"`
	MemoryMin int64             `json:"memory_min"`
	MemoryMax int64             `json:"memory_max"`
	Problems  []string          `json:"problems"`
}

func (p *program) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect MODULE",
		Short: "Describe a WASM module and say why a host would refuse it (exit 1)",
		Args:  cobra.ExactArgs(1),
		RunE: p.action(func(_ context.Context, _ *cobra.Command, args []string) (answer, error) {
			code, err := os.ReadFile(args[0])
			if err != nil {
				return answer{}, wrongInput{err}
			}
			info, err := wasm.Inspect(code)
			if err != nil {
				return answer{}, wrongInput{fmt.Errorf("%s: %w", args[0], err)}
			}
			r := inspected{
				Digest: info.Digest, Size: info.Size, Manifest: info.Manifest,
				Imports: signatures(info.Imports), Exports: signatures(info.Exports),
				MemoryMin: info.MemoryMin, MemoryMax: info.MemoryMax, Problems: append([]string{}, info.Problems...),
			}
			return answer{result: r, text: r.print, no: len(r.Problems) > 0}, nil
		}),
	}
}

func signatures(functions []wasm.Function) []string {
	out := []string{}
	for _, f := range functions {
		name := f.Name
		if f.Module != "" {
			name = f.Module + "." + name
		}
		out = append(out, name+" "+f.Type)
	}
	return out
}

func (r inspected) print(w io.Writer) {
	fmt.Fprintf(w, "digest    %s\nsize      %d bytes\n", r.Digest, r.Size)
	if m := r.Manifest; m != nil {
		fmt.Fprintf(w, "name      %s %s, a %s\n", m.Name, m.Version, m.Kind)
		fmt.Fprintf(w, "fields    %s\n", list(m.Fields))
		if m.Data {
			fmt.Fprintln(w, "data      the whole data of each event")
		}
		if len(m.Outputs) > 0 {
			fmt.Fprintf(w, "outputs   %s\n", list(m.Outputs))
		}
		if len(m.Capabilities) > 0 {
			fmt.Fprintf(w, "asks for  %s\n", list(m.Capabilities))
		}
		fmt.Fprintf(w, "samples   %d\n", len(m.Samples))
	}
	fmt.Fprintf(w, "memory    %d to %s bytes\n", r.MemoryMin, upTo(r.MemoryMax))
	for _, part := range []struct {
		name  string
		names []string
	}{{"imports", r.Imports}, {"exports", r.Exports}, {"problem", r.Problems}} {
		for _, line := range part.names {
			fmt.Fprintf(w, "%-9s %s\n", part.name, line)
		}
	}
}

// upTo writes a ceiling, of which 0 says that there is none.
func upTo(n int64) string {
	if n == 0 {
		return "any number of"
	}
	return fmt.Sprint(n)
}
