# Entry points, for people and for .ci/run alike. `cargo build`, `cargo test` and `cargo run -- run --config …` work alone too.
#   make demo     the main job, on this machine, in front of your eyes
#   make test     everything the tests need is installed, then all tests, none skipped
#   make check    format, lints, every feature alone, licences, docs
#   make servers  installs the foreign servers and clients that the tests use
#   make cross    the agent as static musl binary for aarch64, tried under qemu against a centre on this host
#   make bench    measured numbers, kept under bench/results/
#   make soak SECONDS=600   more seeds and kills than `make test`
#   make fuzz SECONDS=600   each fuzz target for so long, one after the other; `fuzz/run.sh keep` keeps what it found
SHELL := /bin/bash
export DTS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dts
export CARGO_TARGET_DIR ?= $(DTS_CACHE)/target
export CARGO_TERM_COLOR ?= auto
TOOLS := $(DTS_CACHE)/tools/bin
SECONDS ?= 600
FEATURES := full

.PHONY: demo test check fmt clippy features deny docs servers cross bench soak fuzz clean

demo:
	cargo build --release --locked
	$(CARGO_TARGET_DIR)/release/dts demo

test: servers
	DTS_REQUIRE_SERVERS=1 cargo test --locked --features $(FEATURES)

servers:
	tests/servers/install.sh

check: fmt clippy features deny docs

fmt:
	cargo fmt --check

clippy:
	cargo clippy --locked --all-targets --features $(FEATURES) -- -D warnings

# Each preset and each feature alone compiles.
features: $(TOOLS)/cargo-hack
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)-features PATH="$(TOOLS):$$PATH" \
		cargo hack check --locked --each-feature

deny: $(TOOLS)/cargo-deny
	PATH="$(TOOLS):$$PATH" cargo deny --locked check licenses bans sources

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --features $(FEATURES)

cross:
	tests/cross.sh

bench:
	bench/run.sh

soak:
	DTS_REQUIRE_SERVERS=1 DTS_SOAK_SECONDS=$(SECONDS) cargo test --locked --release --features $(FEATURES) -- --nocapture soak

fuzz:
	fuzz/run.sh $(SECONDS)

$(TOOLS)/cargo-%:
	CARGO_TARGET_DIR=$(DTS_CACHE)/tools-target cargo install --locked --root $(DTS_CACHE)/tools cargo-$*

clean:
	cargo clean
