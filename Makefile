# Every target works on a fresh Debian 12 or newer with a Rust toolchain; `tests/install` fetches the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

target := $(or $(CARGO_TARGET_DIR),target)
cargo := cargo
FUZZ_SECONDS ?= 60

.PHONY: help demo lab-shell test test-unit test-lab lint release train bench bench-bgp fuzz deb image clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: ## raise the lab, walk through the main job, print what was measured
	tests/install lab
	$(cargo) build --quiet --locked --profile lab -p sekisho -p sekisho-tests --bins
	$(target)/lab/lab-demo

lab-shell: ## a shell in a running demo: `ip netns exec box …`, `client`, `router`, `node1` …
	@tests/lab-shell

# Where tests/install puts the daemons; their absence fails a test instead of passing it over.
daemons := SEKISHO_REQUIRE_DAEMONS=1 SEKISHO_TEST_BIN=$(CURDIR)/target/daemons/pebble

test: ## every test: unit, property, whole appliance on loopback, real daemons in the lab
	tests/install
	$(cargo) build --locked --workspace --bins
	$(daemons) $(cargo) test --locked --workspace

test-unit: ## the tests that need no daemon and no namespace
	$(cargo) build --locked --workspace --bins
	$(cargo) test --locked --workspace

test-lab: ## the appliance with BIRD 1.6 and 2, GoBGP, FRR, OpenBGPD and ExaBGP in network namespaces; CASES="frr" for some of them
	tests/install lab peers
	$(cargo) build --locked --workspace --bins
	$(daemons) $(cargo) test --locked -p sekisho-tests --test interop -- $(CASES)

lint: ## formatting, clippy without a warning, the lock file of fuzz/, and what cargo-deny finds where it is installed
	$(cargo) fmt --all --check
	$(cargo) clippy --locked --workspace --all-targets -- -D warnings
	@cd fuzz && $(cargo) metadata --locked --format-version 1 >/dev/null || \
	{ echo 'lint: fuzz/Cargo.lock is behind the workspace: run cargo metadata in fuzz/, and commit it'; exit 1; }
	@if command -v cargo-deny >/dev/null; then tests/deny; \
	else echo 'lint: cargo-deny is not installed: licences and advisories were not checked (cargo install --locked cargo-deny)'; fi

release: ## the binary that ships, target/release/sekisho: optimised for what was hot in the loads of the benches
	tests/release

train: ## find out anew what is hot, after rustc or a dependency has changed; commit what comes of it
	tests/train

bench: ## work per CPU second, latency and memory beside HAProxy, nginx, Envoy and Traefik
	tests/install lab bench
	tests/release
	$(cargo) build --quiet --locked --profile lab -p sekisho-tests --bins
	SEKISHO=$${SEKISHO:-$(abspath $(target))/release/sekisho} $(target)/lab/lab-bench

bench-bgp: ## a million routes beside BIRD 2, BIRD 1.6, FRR and GoBGP; DAEMONS="sekisho bird2" CASES="packed spread" for some
	tests/install lab peers
	tests/release
	$(cargo) build --quiet --locked --profile lab -p sekisho-tests --bins
	SEKISHO=$${SEKISHO:-$(abspath $(target))/release/sekisho} $(target)/lab/lab-bgp

fuzz: ## every fuzz target for FUZZ_SECONDS (60) each, or those in TARGETS; what they find is kept below fuzz/corpus
	@command -v c++ >/dev/null || { echo 'fuzz: libFuzzer is written in C++ and there is no compiler for it: apt-get install g++'; exit 1; }
	command -v cargo-fuzz >/dev/null || $(cargo) install --locked cargo-fuzz
	cd fuzz && for name in $${TARGETS:-$$(cargo fuzz list)}; do \
	  mkdir -p corpus/$$name seeds/$$name; \
	  cargo fuzz run --sanitizer none $$name corpus/$$name seeds/$$name -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10 -print_final_stats=1; \
	done

deb: ## a Debian package under target/debian
	command -v cargo-deb >/dev/null || $(cargo) install --locked cargo-deb
	tests/release
	$(cargo) deb --locked --no-build

image: ## not there yet
	@echo 'image: there is no container image yet; `make deb` gives a Debian package'; exit 1

clean: ## remove what was built and unpacked
	$(cargo) clean
	rm -rf target/daemons target/lab.*.pid
