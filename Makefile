# Two commands: `make demo` shows the main job, `make test` checks everything. Both do all the set-up.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/arcgis-credential-operator
# amd64 or arm64; the latter needs aarch64-linux-gnu-gcc, of Debian's gcc-aarch64-linux-gnu.
ARCH ?= amd64
MUSL := $(if $(filter arm64,$(ARCH)),aarch64,x86_64)-unknown-linux-musl
# Also where cargo's configuration names another folder: what it builds is run from here.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
DEBUG := $(CARGO_TARGET_DIR)/debug
RELEASE := $(CARGO_TARGET_DIR)/$(MUSL)/release/arcgis-credential-operator

# What is made twice from one commit is to be the same.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
# Only for these: with another value, cargo builds ring and all that depends on it again.
unexport SOURCE_DATE_EPOCH
release sbom dist reproducible: export SOURCE_DATE_EPOCH := $(SOURCE_DATE_EPOCH)
# The minor version of the control plane: `make test KUBERNETES=1.34`. Without it, that of hack/controlplane/go.mod.
KUBERNETES ?=
export KUBERNETES PORTAL CLIENT_ID_FILE CLIENT_SECRET_FILE DEMO_KEEP SEED SEEDS MINUTES TOOLS

.PHONY: help
help: ## Show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: toolchain
toolchain:
	@cargo --version >/dev/null 2>&1 || hack/progress $(TOOLS)/log/rustup.log \
	  'Installing the Rust toolchain, once: about 1 min' --hint 'Install rustup if it is missing.' -- rustup toolchain install

.PHONY: demo
demo: toolchain ## Show the main job on a real control plane; PORTAL=, CLIENT_ID_FILE=, CLIENT_SECRET_FILE= for a real portal
	@hack/progress $(TOOLS)/log/cargo-build.log \
	  '[1/3] Building the operator and the test portal, once: about 2 min' \
	  --hint 'Rust (by rustup) and a C compiler are needed.' -- cargo build --workspace --locked
	@hack/controlplane/build 2 3 >/dev/null
	@echo 'Starting etcd, kube-apiserver and the controllers'
	@$(DEBUG)/control-plane -- hack/demo

.PHONY: demo-recording
demo-recording: ## Run the demo and write docs/demo.svg, the animation in the README; needs Python 3
	@hack/demo-svg docs/demo.svg -- $(MAKE) --no-print-directory demo

.PHONY: tools
tools:
	@hack/tools/build $(TOOLS)/bin

.PHONY: test
test: toolchain lint deny tools ## Check everything; KUBERNETES=1.34 on that version
	cargo build --workspace --locked
	$(DEBUG)/control-plane -- hack/test

.PHONY: examples
examples: export EXAMPLES := all
examples: toolchain ## Run the examples with real clients, servers and a browser, which it installs; pictures in target/tmp/screenshots
	@hack/examples setup
	cargo build --workspace --locked
	$(DEBUG)/control-plane -- cargo test --locked --test e2e examples::

.PHONY: gitops
gitops: export GITOPS := all
gitops: toolchain ## Run Flux's kustomize-controller, which it builds, and Argo CD's health check on the resource
	@hack/progress $(TOOLS)/log/flux.log "Building Flux's kustomize-controller and sops, once: about 5 min" \
	  --hint 'Go is needed.' -- hack/flux/build $(TOOLS)/bin
	cargo build --workspace --locked
	$(DEBUG)/control-plane -- cargo test --locked --test e2e gitops::

.PHONY: e2e
e2e: toolchain ## Run image and chart on a real node with real pods; skipped where no node can run (root, cgroups)
	@hack/node/e2e

.PHONY: simulate
simulate: export SIMULATE := full
simulate: toolchain ## Simulate 10,000 resources for 30 days of virtual time with SEEDS=20 seeds; SEED=7 replays one
	cargo test --profile simulation --locked --lib stability
	cargo test --profile simulation --locked --test simulation -- --nocapture --test-threads=1

.PHONY: chaos
chaos: export CHAOS := full
chaos: toolchain ## Let everything around two replicas fail at random for MINUTES=10; SEED=7 repeats the faults of one run
	cargo build --workspace --locked
	cargo test --locked --test chaos a_fleet -- --nocapture

.PHONY: hand-over
hand-over: toolchain ## Measure changes of leader beside 30,000 Secrets of others; five minutes
	cargo build --workspace --locked
	$(DEBUG)/control-plane -- cargo test --locked --test e2e hand_over:: -- --ignored --nocapture

FUZZ_SECONDS ?= 120
.PHONY: fuzz
fuzz: toolchain ## Feed untrusted input to the parsers, each for FUZZ_SECONDS; needs a nightly toolchain
	@hack/cargo-tools cargo-fuzz
	@rustup run nightly true 2>/dev/null || rustup toolchain install nightly --profile minimal
	@for target in answer certificate duration pem template url; do \
	  PATH="$$(hack/cargo-tools):$$PATH" cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit; \
	done

.PHONY: mutants
mutants: toolchain ## Break the core and the classification of answers, and see that a test notices; takes an hour
	hack/mutants

.PHONY: generate
generate: toolchain ## Write the CRD, the chart's copies of it and of the alerts, the chart's icon and README
	cargo run --quiet --locked -- crd > crds/crd.new && mv crds/crd.new crds/arcgisappcredentials.yaml
	cp crds/arcgisappcredentials.yaml deploy/chart/files/crd.yaml
	cp deploy/monitoring/alerts.yaml deploy/monitoring/dashboard.json deploy/chart/files/
	sed -i "s|^icon: .*|icon: data:image/svg+xml;base64,$$(base64 -w0 < deploy/chart/icon.svg)|" deploy/chart/Chart.yaml
	hack/chart-readme > deploy/chart/README.new && mv deploy/chart/README.new deploy/chart/README.md

.PHONY: prose
prose: toolchain ## Check vocabulary, style and spelling of docs, comments, messages and names
	hack/prose --self-test
	hack/prose

.PHONY: lint
lint: toolchain prose
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo metadata --quiet --locked --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null

.PHONY: deny
deny: toolchain
	hack/deny

.PHONY: release
release: toolchain ## Build the static release binary
	rustup target add $(MUSL)
	hack/release $(MUSL)
	@ls -l $(RELEASE)

.PHONY: profile
profile: toolchain ## Write the profile that the release is optimized with; after an update of Rust or of what it links
	rustup target add $(MUSL)
	cargo build --profile simulation --locked --package testkit --bin bench
	cargo build --quiet --locked --package testkit
	hack/profile $(MUSL)

.PHONY: sbom
sbom: release ## Write what is linked into the release binary to out/sbom.cdx.json, and check it
	@hack/cargo-tools cargo-cyclonedx
	@mkdir -p out
	PATH="$$(hack/cargo-tools):$$PATH" cargo cyclonedx --quiet --no-build-deps --format json --target $(MUSL) --override-filename sbom.cdx
	mv sbom.cdx.json out/
	rm -f testkit/sbom.cdx.json hack/ca-bundle/sbom.cdx.json
	hack/linked $(MUSL) $(RELEASE) out/sbom.cdx.json

.PHONY: dist
dist: toolchain sbom ## Write to out: one file to apply, chart, CRD, alerts, dashboard and SBOM; IMAGE= and DIGEST= name a pushed image
	hack/dist out
	cd out && sha256sum *.yaml *.json *.tgz > SHA256SUMS && cat SHA256SUMS

.PHONY: reproducible
reproducible: toolchain ## Build the committed release and its image twice in different folders, and compare
	rustup target add $(MUSL)
	hack/reproducible $(MUSL)

BENCH_SIZES ?= 100 1000 10000
COMPARE_SIZE ?= 3000
PAIRS ?= 3
.PHONY: bench
bench: release ## Measure BENCH_SIZES="100 1000 10000" resources, and write docs/performance.md; or COMPARE=REVISION beside this one; an hour
	cargo build --profile simulation --locked --package testkit --bin bench
	cargo build --quiet --locked --package testkit
ifdef COMPARE
	out=out/compare/$$(git rev-parse --short HEAD) && \
	  hack/bench-compare $(COMPARE) $(COMPARE_SIZE) $(PAIRS) $$out $(MUSL) $(BENCH) && hack/bench-report $$out docs $(COMPARE)
else
	@rm -rf out/bench && mkdir -p out/bench
	for size in $(BENCH_SIZES); do for host in '' --one-host; do \
	  $(DEBUG)/control-plane -- $(CARGO_TARGET_DIR)/simulation/bench --operator $(RELEASE) --resources $$size \
	    --json out/bench/$$size$${host#-}.json $(BENCH) $$host || exit; \
	done; done
	@test -x $(TOOLS)/bench/bin/python || python3 -m venv $(TOOLS)/bench
	@$(TOOLS)/bench/bin/pip install --quiet --disable-pip-version-check matplotlib==3.10.7
	$(TOOLS)/bench/bin/python hack/bench-report out/bench docs
endif

.PHONY: image
image: release ## Assemble the container image, without a container engine, into out/image.tar, and print its digest
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) hack/image $(MUSL) $(ARCH) out/image.tar
	@ls -l out/image.tar

.PHONY: check-image
check-image: image
	IMAGE=$(CURDIR)/out/image.tar cargo test --quiet --locked --test repo image::
