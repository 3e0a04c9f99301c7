package main

import (
	"github.com/weir-project/weir/engine/config"
	embedding "github.com/weir-project/weir/engine/program"
)

// needsProgram refuses what only a program that embeds the engine can run: ends that
// lie in the program itself.
func needsProgram(plan *config.Plan) error {
	const hint = "it is for a program that embeds the engine; see docs/embedding.md"
	bad := &config.Errors{}
	add := func(path, transport, problem string) {
		if transport == embedding.Name {
			bad.Mistakes = append(bad.Mistakes, plan.Mistake(path+"."+embedding.Name, problem, hint))
		}
	}
	for i := range plan.Sources {
		add("sources."+plan.Sources[i].Name, plan.Sources[i].Transport, "nobody publishes to it here")
	}
	for i := range plan.Sinks {
		add("sinks."+plan.Sinks[i].Name, plan.Sinks[i].Transport, "nothing handles its events here")
	}
	add(config.DeadLettersName, plan.DeadLetters.Sink.Transport, "nothing handles its events here")
	if len(bad.Mistakes) == 0 {
		return nil
	}
	return bad
}
