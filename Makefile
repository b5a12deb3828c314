# flix: build, test, measure, show. `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-builtin-rules
.DELETE_ON_ERROR:

GO       ?= go
FUZZTIME ?= 10s
RUNS     ?= 5
TESTTIME ?= 20m
SCENARIOTIME ?= 90m
TESTARGS ?=
# e.g. -seed 2 -n 50, or -set 3G,bbb.json,25,traces/ for traces from files
ABRARGS  ?=

# e.g. -players 100 -watch 9.4s, -soak 30m -seed 2, or -containers -only evacuation -players 100
RESILIENCEARGS ?=

# The tools are run at fixed versions; a local binary may stand in for one,
# e.g. make verify BUF=buf.
BUF         ?= $(GO) run github.com/bufbuild/buf/cmd/buf@v1.75.0
STATICCHECK ?= $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI    ?= $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

SOURCES := $(wildcard *.go) .ci cmd fixtures lab oca services topology

.PHONY: help build test test-long race lint lint-full bench bench-containers bench-evcache fuzz fixtures generate verify demo man picture clean bench-registry bench-oca bench-edge bench-abr bench-steering bench-resilience bench-fill soak

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

build: ## bin/flix: static, stripped
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/flix ./cmd/flix

# The scenarios come last and alone: whole labs with lab timing should not share
# the processors with compilers and encoders.
test: ## every test there is; those that need ffmpeg, or Docker and the images, are skipped without
	@command -v ffmpeg >/dev/null || echo "ffmpeg is not on PATH: the tests that need it are skipped"
	@docker info >/dev/null 2>&1 || echo "no Docker engine answers: the tests on containers are skipped"
	$(GO) test -timeout $(TESTTIME) $(TESTARGS) $$($(GO) list ./... | grep -v '/lab/e2e$$')
	$(GO) test -timeout $(SCENARIOTIME) $(TESTARGS) ./lab/e2e

test-long: ## the scenarios on containers that take minutes each: random kills, restarts, profiles, the host network, moves cut short, regions far apart, cut, lost or without a service
	FLIX_LONG=1 $(GO) test -v -timeout $(SCENARIOTIME) -run 'RandomKills|ContainersRestart|Profile|HostNetwork|SnapshotRegions|MoveIsResumed|RegionWithoutAService|BrokenSavers|FarApart|OneSlowDependency|Consistency' $(TESTARGS) ./lab/e2e

# The scenarios of lab/e2e run flix as processes, which the detector of the
# test's own process does not see; generated code and the root (it only reads
# the sources) have nothing to race.
race: ## the race detector over every package but the scenarios (needs a C compiler); without containers
	FLIX_REQUIRE_DOCKER= DOCKER_HOST=unix:///nowhere $(GO) test -race -timeout $(TESTTIME) $(TESTARGS) $$($(GO) list ./... | grep -Ev 'flix-lab/flix$$|/lab/e2e$$|pb$$')

lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l $(SOURCES)); if [ -n "$$unformatted" ]; then echo "gofmt -w these:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./... ./.ci/svg
	$(STATICCHECK) ./...

lint-full: ## golangci-lint with .golangci.yml (compiles it first: minutes)
	$(GOLANGCI) run ./...

bench: build ## measure start, memory, end and play delay of a lab, beside the targets
	$(GO) run ./lab/bench -flix bin/flix -runs $(RUNS)

bench-edge: build ## measure the gateway beside HAProxy and Caddy, and what a request allocates (needs nginx, haproxy, wrk; Caddy is left out if it is not there)
	$(GO) run ./lab/bench/edge -flix bin/flix
	$(GO) test -run '^$$' -bench Proxied -benchtime 20000x ./services/gateway

bench-containers: build ## measure the containers runtime beside its stores alone (needs Docker and the images)
	$(GO) run ./lab/bench -flix bin/flix -containers

bench-resilience: build ## evacuation under 500 players, what 1,000 light players cost, a seeded soak; RESILIENCEARGS, e.g. -soak 30m -players 100
	$(GO) run ./lab/bench -flix bin/flix -resilience $(RESILIENCEARGS)

soak: build ## five minutes of players, writes and seeded faults: no play may fail, no acknowledged write be lost, memory stays flat
	$(GO) run ./lab/bench -flix bin/flix -resilience -only soak -soak 5m $(RESILIENCEARGS)

bench-evcache: ## the EVCache client beside gomemcache, on the real memcached if it is installed, and on the embedded one
	$(GO) run ./lab/bench/evcache

bench-registry: build ## measure the registry with 10,000 instances, beside Eureka's own server (needs Java and Maven)
	$(GO) run ./lab/bench/registry -flix bin/flix

bench-steering: ## decisions a second on one core over 1.2 million prefixes, 2,000 appliances and 100,000 titles
	$(GO) test -run '^$$' -bench 'Planet|Announce' -benchmem ./services/steering

bench-fill: ## makespan and origin egress of real appliances with capped lines beside the lower bound; an hour's plan of 2,000 appliances x 100,000 files
	$(GO) test -run '^$$' -bench Makespan -benchtime 1x ./oca
	$(GO) test -run '^$$' -bench PlanPlanet -benchtime 3x ./services/cachecontrol

bench-oca: build ## measure an appliance beside nginx: bytes, processor time, a 100 ms path, idle connections (needs nginx and wrk)
	$(GO) run ./lab/bench/oca -flix bin/flix -rounds $(RUNS)

bench-abr: ## the default adaptation beside throughput, BOLA, BOLA-E, DYNAMIC and robust MPC, over many networks
	$(GO) run ./lab/bench/abr $(ABRARGS)

fuzz: ## every fuzz target for FUZZTIME (10s)
	@grep -rl '^func Fuzz' --include='*_test.go' $(SOURCES) | sort | while read -r file; do \
	  sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file" | while read -r target; do \
	    echo "== $$(dirname "$$file") $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" </dev/null || exit 1; \
	  done || exit 1; \
	done

fixtures: ## make the embedded titles anew with ffmpeg
	$(GO) run ./fixtures/gen

generate: ## the code of every .proto
	$(BUF) generate --template .buf.gen.yaml

verify: ## fails when generated code differs from its .proto
	@work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	$(BUF) generate --template .buf.gen.yaml -o "$$work"; \
	bad=0; for file in $$(find services -name '*.pb.go' | sort); do cmp "$$file" "$$work/$$file" || bad=1; done; \
	for file in $$(cd "$$work" && find services -name '*.pb.go' | sort); do [ -e "$$file" ] || { echo "$$file is not committed"; bad=1; }; done; \
	[ $$bad = 0 ] && echo "generated code is up to date" || { echo "run: make generate"; exit 1; }

demo: build ## the whole way in one go: up, play, add a title, fill, evacuate under players, down
	.ci/demo bin/flix

man: build ## man pages in dist/man
	bin/flix man dist/man

picture: build ## the README's picture, made of a lab at work (needs tmux)
	.ci/picture bin/flix .ci/picture.svg

clean: ## remove what was built
	rm -rf bin dist
