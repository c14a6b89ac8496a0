# `make` lists the targets. Go and make are enough for all of them, and a C
# compiler for the race detector; the tools are pinned in tools/go.mod and
# built by Go on first use.

GO        ?= go
TOOL      := $(GO) tool -modfile=tools/go.mod
PKGS      ?= ./...
# Longest time for the tests of one package.
TIMEOUT   ?= 20m
# How long for each fuzz function: so many inputs (30000x) or so much time (1m).
# Inputs by default, for at the end of a time the go command now and then takes
# its own deadline for a failure.
FUZZTIME  ?= 30000x
# Of make bench: how often each line is measured, and which lines are, as a
# regular expression for their keys (floor|daemon/file).
ROUNDS    ?= 5
LINES     ?=
# Rounds of each Go benchmark; benchstat wants at least 6 for an interval.
COUNT     ?= 6
LISTEN    ?= 127.0.0.1:7420
DATA      ?= lockkeeper-data

# The race detector needs cgo, and so a C compiler. Without one, test says so
# and goes on; race refuses.
CC_FOUND  := $(shell CC="$$($(GO) env CC)"; command -v "$${CC%% *}" >/dev/null 2>&1 && [ "$$($(GO) env CGO_ENABLED)" = 1 ] && echo yes)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## start the server on LISTEN with its data in DATA
	$(GO) run ./cmd/lockkeeper serve --listen $(LISTEN) --data $(DATA)

.PHONY: build
build: ## build bin/lockkeeper
	$(GO) build -o bin/lockkeeper ./cmd/lockkeeper

# -vet=all runs the whole of vet on what the tests compile anyway: a separate
# vet would compile every dependency a second time, without the detector.
.PHONY: test
test: ## vet, and all tests, with the race detector: what CI runs
ifeq ($(CC_FOUND),yes)
	$(GO) test -race -vet=all -timeout $(TIMEOUT) $(PKGS)
else
	@echo "no C compiler found: the tests run WITHOUT the race detector" >&2
	$(GO) test -vet=all -timeout $(TIMEOUT) $(PKGS)
endif

# -count=1 because a run that is asked for is to happen, cached or not.
.PHONY: race
race: ## all tests with the race detector, not from the cache
	CGO_ENABLED=1 $(GO) test -race -vet=off -count=1 -timeout $(TIMEOUT) $(PKGS)

.PHONY: check
check: ## all that a change must pass: format, modules, lint, tests
	@unformatted="$$(gofmt -l .)"; [ -z "$$unformatted" ] || { echo "not gofmt'ed (make fmt):"; echo "$$unformatted"; exit 1; } >&2
	$(GO) mod tidy -diff
	$(GO) -C bench mod tidy -diff
	$(GO) mod verify
	$(MAKE) lint
	$(MAKE) test

.PHONY: lint
lint: ## golangci-lint, as pinned in tools/go.mod
	$(TOOL) golangci-lint run $(PKGS)
	cd bench && $(GO) tool -modfile=../tools/go.mod golangci-lint run ./...

.PHONY: vet
vet: ## go vet alone
	$(GO) vet $(PKGS)

.PHONY: fmt
fmt: ## format all Go files
	gofmt -w .

# The go command fuzzes one function at a time, so they are found first.
.PHONY: fuzz
fuzz: ## each fuzz function for FUZZTIME
	@set -eu; \
	list="$$($(GO) list -f '{{$$p := .}}{{range .TestGoFiles}}{{$$p.ImportPath}} {{$$p.Dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$$p.ImportPath}} {{$$p.Dir}}/{{.}}{{"\n"}}{{end}}' $(PKGS))"; \
	echo "$$list" | while read -r pkg file; do \
		[ -n "$$pkg" ] || continue; \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "== $$pkg $$name"; \
			$(GO) test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZTIME) "$$pkg" </dev/null; \
		done; \
	done

.PHONY: bench
bench: ## a table of Lockkeeper beside the disk and others' servers, 15 minutes
	@mkdir -p bin
	cd bench && $(GO) test -run='^TestBench$$' -count=1 -timeout 40m -args -whole -rounds=$(ROUNDS) -lines='$(LINES)' -out=../bin/bench.json

.PHONY: gobench
gobench: ## Go benchmarks, COUNT rounds, summed up by benchstat
	@mkdir -p bin
	$(GO) test -run='^$$' -bench=. -benchmem -count=$(COUNT) -timeout 60m $(PKGS) > bin/gobench.txt || { cat bin/gobench.txt; exit 1; }
	$(TOOL) benchstat bin/gobench.txt

# Their URLs are in bin/services.env while they run.
.PHONY: services
services: build ## start one of each server that locks and queues can be kept on, with throw-away data
	$(GO) build -o bin/services ./internal/realserver/services
	@bin/services -env bin/services.env -lockkeeper bin/lockkeeper -listen $(LISTEN)

.PHONY: clean
clean: ## remove what make built
	rm -rf bin
