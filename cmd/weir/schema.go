package main

import (
	"context"
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/engine/config"
)

func (p *program) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file",
		Long: "Print the JSON Schema of the configuration file, for editors: write it to\n" +
			"weir.schema.json and begin the configuration with\n\n" +
			"  # yaml-language-server: $schema=weir.schema.json",
		Args: cobra.NoArgs,
		RunE: p.action(func(context.Context, *cobra.Command, []string) (answer, error) {
			text := config.Schema(p.transports, p.hostNames())
			return answer{result: json.RawMessage(text), text: func(w io.Writer) { w.Write(text) }}, nil
		}),
	}
}
