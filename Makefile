# Weir needs Go alone: `make run` builds it and shows it at work, `make test`
# installs what the tests need and runs them. `make help` lists the rest.

GO      ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT     = mvdan.cc/gofumpt@v0.9.2
BENCHES  ?= all
FUZZTIME ?= 10s
# The folder of durable benchmarks must be on a disk, not in memory.
DIR      ?=

QUICKSTART = examples/quickstart

# Modules of their own: guests and their kit.
MODULES = sdk/go examples/plugins/vip-go

.DEFAULT_GOAL := help
.PHONY: help build run test race lint bench fuzz faults clean toolchains

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

build: bin/weir ## build bin/weir, one static binary

.PHONY: bin/weir
bin/weir:
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -o bin/weir ./cmd/weir

run: bin/weir ## run the quickstart on fresh data and show where its events went
	@rm -rf $(QUICKSTART)/run
	@./bin/weir run -c $(QUICKSTART)/weir.yaml
	@echo
	@echo "weir is bin/weir here. Then"
	@echo "  bin/weir queue list -c $(QUICKSTART)/weir.yaml"
	@echo "  bin/weir run -c $(QUICKSTART)/weir.yaml    again: nothing comes twice"
	@echo "  $(QUICKSTART)/README.md    what became of each event, and why"

test: toolchains ## install what the tests need and run them
	$(GO) mod download
	$(GO) test -timeout 10m ./...
	@set -e; for m in $(MODULES); do echo "(cd $$m && $(GO) test ./...)"; (cd $$m && $(GO) test ./...); done
	@$(MAKE) --no-print-directory race

# The race detector needs a C compiler.
race: ## run the tests under the race detector
	@if [ -n "$$($(GO) env CC)" ] && command -v "$$($(GO) env CC)" >/dev/null 2>&1; then \
		echo "$(GO) test -race -timeout 15m ./..."; CGO_ENABLED=1 $(GO) test -race -timeout 15m ./...; \
	elif [ "$$WEIR_REQUIRE" = all ]; then \
		echo "WEIR_REQUIRE=all: no C compiler for the race detector"; exit 1; \
	else \
		echo "SKIPPED: race detector (needs a C compiler)"; \
	fi

# Rust for guests, where this is a Debian and we may install. Elsewhere the
# tests that rebuild the guests say SKIPPED; everything else runs with Go alone.
toolchains:
	@if [ -x /usr/bin/rustc ] && [ -d /usr/lib/rustlib/src ] && command -v wasm-ld-19 >/dev/null && command -v cargo >/dev/null; then \
		:; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing Rust for the guests' tests"; \
		packages="rustc-web rust-web-src lld-19"; \
		command -v cargo >/dev/null || packages="$$packages cargo-web"; \
		DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; \
		apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends $$packages >/dev/null \
			|| echo "SKIPPED: rebuilding the Rust guests (could not install $$packages)"; \
	else \
		echo "SKIPPED: rebuilding the Rust guests (no rustc, wasm-ld-19 and cargo, and no right to install them)"; \
	fi

lint: ## vet, staticcheck and formatting
	$(GO) vet ./...
	@set -e; for m in $(MODULES); do (cd $$m && GOOS=wasip1 GOARCH=wasm $(GO) vet ./...); done
	$(GO) run $(STATICCHECK) ./...
	@echo "$(GO) run $(GOFUMPT) -l ."; files=$$($(GO) run $(GOFUMPT) -l .) || exit 1; \
	if [ -n "$$files" ]; then echo "not formatted:"; echo "$$files"; exit 1; fi

bench: ## run the benchmarks; BENCHES="pipeline local" chooses, DIR=folder is their disk
	$(GO) run ./bench $(if $(DIR),--dir $(DIR)) $(BENCHES)

faults: ## kill, fault and bad-input tests; SEED=n repeats a run
	$(GO) test -count=1 ./engine/faults -args $(if $(SEED),-seed $(SEED)) -cycles 50 -cuts 50

fuzz: ## fuzz each parser for FUZZTIME (10s)
	@set -e; $(GO) list -f '{{range .TestGoFiles}}{{$$.Dir}}/{{.}} {{$$.ImportPath}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$$.Dir}}/{{.}} {{$$.ImportPath}}{{"\n"}}{{end}}' ./... | \
	while read -r file package; do \
		[ -n "$$file" ] || continue; \
		for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$$package $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) "$$package"; \
		done; \
	done

clean: ## remove what was built and what the quickstart wrote
	rm -rf bin $(QUICKSTART)/run
