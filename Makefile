# Two commands: `make demo` shows the main job, `make test` checks everything. Both do all the set-up.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/arcgis-credential-operator
DENY_VERSION := 0.20.2
# amd64 or arm64; the latter needs aarch64-linux-gnu-gcc, of Debian's gcc-aarch64-linux-gnu.
ARCH ?= amd64
MUSL := $(if $(filter arm64,$(ARCH)),aarch64,x86_64)-unknown-linux-musl
RELEASE := target/$(MUSL)/release/arcgis-credential-operator

export PORTAL CLIENT_ID_FILE CLIENT_SECRET_FILE DEMO_KEEP

.PHONY: help
help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: toolchain
toolchain:
	@cargo --version >/dev/null 2>&1 || rustup toolchain install

.PHONY: demo
demo: toolchain ## Show the main job on a real control plane; PORTAL=, CLIENT_ID_FILE=, CLIENT_SECRET_FILE= for a real portal
	@cargo build --quiet --workspace --locked
	@target/debug/control-plane -- ./hack/demo

.PHONY: tools
tools:
	@hack/tools/build $(TOOLS)/bin

.PHONY: test
test: toolchain lint deny tools ## Check everything
	cargo build --workspace --locked
	target/debug/control-plane -- cargo test --workspace --locked

# Most of the time tests wait.
test: export RUST_TEST_THREADS ?= 6

FUZZ_SECONDS ?= 120
.PHONY: fuzz
fuzz: $(TOOLS)/bin/cargo-fuzz ## Feed strangers' input to the parsers, each for FUZZ_SECONDS; needs a nightly toolchain
	@rustup run nightly true 2>/dev/null || rustup toolchain install nightly --profile minimal
	@for target in answer duration pem template url; do \
	  PATH=$(TOOLS)/bin:$$PATH cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit; \
	done

.PHONY: mutants
mutants: $(TOOLS)/bin/cargo-mutants ## Break the core and the classification of answers, and see that a test notices; takes an hour
	PROPTEST_CASES=64 PATH=$(TOOLS)/bin:$$PATH cargo mutants --jobs 2 --output out

.PHONY: generate
generate: toolchain ## Make the CRD anew, and the chart's copies and README
	cargo run --quiet --locked -- crd > crds/crd.new && mv crds/crd.new crds/arcgisappcredentials.yaml
	cp crds/arcgisappcredentials.yaml deploy/chart/files/crd.yaml
	cp deploy/monitoring/alerts.yaml deploy/monitoring/dashboard.json deploy/chart/files/
	hack/chart-readme > deploy/chart/README.new && mv deploy/chart/README.new deploy/chart/README.md

.PHONY: lint
lint: toolchain
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

$(TOOLS)/bin/cargo-deny:
	@echo "tools: building cargo-deny once; about 5 minutes on two cores"
	cargo install --quiet --locked --root $(TOOLS) --version $(DENY_VERSION) cargo-deny

$(TOOLS)/bin/cargo-fuzz:
	cargo install --quiet --locked --root $(TOOLS) --version 0.13.2 cargo-fuzz

$(TOOLS)/bin/cargo-mutants:
	cargo install --quiet --locked --root $(TOOLS) --version 27.1.0 cargo-mutants

.PHONY: deny
deny: toolchain $(TOOLS)/bin/cargo-deny
	$(TOOLS)/bin/cargo-deny --locked check licenses bans sources

# For this target alone: a change of these builds C code anew.
release: export CC_x86_64_unknown_linux_musl ?= gcc
release: export CC_aarch64_unknown_linux_musl ?= aarch64-linux-gnu-gcc
release: export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER ?= rust-lld
release: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER ?= rust-lld

.PHONY: release
release: toolchain ## Build the static release binary
	rustup target add $(MUSL)
	cargo build --release --locked --target $(MUSL)
	@ls -l $(RELEASE)

.PHONY: load
load: release ## Measure many resources: LOAD="--resources 10000"
	cargo build --quiet --locked --package testkit
	target/debug/control-plane -- target/debug/load --operator $(RELEASE) $(LOAD)

.PHONY: image
image: release tools ## Assemble the container image, without a container engine, into out/image.tar
	@mkdir -p out
	$(TOOLS)/bin/assemble-image -binary $(RELEASE) -arch $(ARCH) \
	  -epoch $${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 0)} \
	  -version $$(sed -n '/^version/{s/.*"\(.*\)"/\1/p;q}' Cargo.toml) \
	  -revision $$(git rev-parse HEAD 2>/dev/null || echo unknown) -out out/image.tar
	IMAGE=$(CURDIR)/out/image.tar cargo test --quiet --locked --test image
	@ls -l out/image.tar
