# The verbs of this repository. `make` alone lists them.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test unit matrix search orders fuzz mutants fmt fmt-check lint assets test-assets crds docs manifests deny simulator plugin picture bench image e2e clean

BIN := $(or $(CARGO_TARGET_DIR),target)/debug

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## Show the main job from nothing to the end; KEEP=1 leaves everything running
	cargo build --locked -p roomrobot-operator -p testbed
	$(BIN)/demo $(if $(filter-out 0,$(KEEP)),--keep)

# Much of a test's time is waiting for a Lease or a back-off; five at a time leave two processors nothing to wait for.
test: export RUST_TEST_THREADS ?= $(shell echo $$((5 * $$(getconf _NPROCESSORS_ONLN) / 2)))
test: fmt-check lint test-assets ## Check everything that CI checks
	cargo test --locked --workspace

unit: ## Run the tests that need no control plane
	cargo test --locked --workspace --lib --bins

matrix: assets ## Run the reliability matrix ROUNDS times in a row, 10 unless told; a round may take 20 minutes
	cargo test --locked --test integration --no-run
	for round in $$(seq $(or $(ROUNDS),10)); do \
	  start=$$(date +%s); \
	  cargo test --locked --test integration -- reliability one_call nothing_lost nothing_stuck program quota create born_with_finalizer || exit 1; \
	  took=$$(($$(date +%s) - start)); echo "round $$round took $$took s"; \
	  [ $$took -le 1200 ] || exit 1; \
	done

search: ## Search simulated worlds for a broken promise for MINUTES, 10 unless told; ARGS="--case N" tells one story
	cargo run --locked -q --profile search -p simulation --bin search -- --minutes $(or $(MINUTES),10) $(ARGS)

orders: ## Go through every order of small worlds, each for MINUTES at most, 2 unless told
	cargo run --locked -q --profile search -p simulation --bin search -- --orders --minutes $(or $(MINUTES),2)

# Coverage as libFuzzer reads it, which every rustc can put in. No sanitizer, which would need another toolchain: unsafe
# code is forbidden here.
COVERAGE = -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)

fuzz: ## Fuzz what reads foreign bytes for MINUTES, 5 unless told; TARGET=reply fuzzes that alone; needs a C++ compiler
	@command -v "$${CXX:-c++}" >/dev/null || { echo "make fuzz needs a C++ compiler for libFuzzer: install g++ or clang++, or name it with CXX" >&2; exit 1; }
	RUSTFLAGS="$(COVERAGE) --cap-lints=allow" \
	  cargo build --locked --profile fuzz --target $(HOST) -p fuzz-targets --bin fuzz --features libfuzzer
	crates/fuzz/run $(or $(CARGO_TARGET_DIR),target)/$(HOST)/fuzz/fuzz $(or $(MINUTES),5) $(TARGET)

fmt: ## Format the code
	cargo fmt --all

fmt-check: ## Check the format of the code
	cargo fmt --all -- --check

lint: ## Run clippy and rustdoc; a warning is an error
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked -p roomrobot-operator --no-default-features --lib --bins -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items

assets: ## Build the control plane's programs, once, and print their folder
	cargo run --locked -q -p testbed --bin testbed-assets

test-assets: ## The same, and what only tests need: Helm, promtool, Prometheus, a Lua and a kstatus
	cargo run --locked -q -p testbed --bin testbed-assets -- --tests

crds: ## Write crds/*.yaml from the types in crates/core/src/crd
	UPDATE_CRDS=1 cargo test --locked -p roomrobot-core crd::tests

docs: ## Write the tables of docs/ that come from the code
	UPDATE_DOCS=1 cargo test --locked --lib docs

manifests: assets ## Write deploy/, the chart's README and the health tests from the chart and the operator
	UPDATE_MANIFESTS=1 cargo test --locked --test integration -- installation::generated installation::gitops::health

deny: ## Check licenses, versions and advisories of the dependencies; needs cargo-deny
	cargo deny --locked check

# cargo-mutants, in a copy of the tree. A mutant that makes the tests run without end counts as caught (exit status 3).
MUTANTS_VERSION := 27.1.0
NEXTEST_VERSION := 0.9.151
MUTANTS := $(abspath $(or $(CARGO_TARGET_DIR),target))/mutants

mutants: ## Change what decides, one mutant at a time, and see that unit tests notice; ONLY="plan.rs engine" or SHARD=0/8 picks
	@$(MUTANTS)/bin/cargo-mutants --version 2>/dev/null | grep -qF ' $(MUTANTS_VERSION)' \
	  || cargo install --locked --root $(MUTANTS) --version $(MUTANTS_VERSION) cargo-mutants
	@$(MUTANTS)/bin/cargo-nextest nextest --version 2>/dev/null | grep -qF 'nextest $(NEXTEST_VERSION)' \
	  || cargo install --locked --root $(MUTANTS) --version $(NEXTEST_VERSION) --no-default-features --features default-no-update cargo-nextest
	rm -rf $(MUTANTS)/tree && mkdir -p $(MUTANTS)/tree
	git ls-files -z | tar -c --null -T - | tar -x -C $(MUTANTS)/tree
	cd $(MUTANTS)/tree && PATH="$(MUTANTS)/bin:$$PATH" CARGO_TARGET_DIR=$(MUTANTS)/target $(MUTANTS)/bin/cargo-mutants mutants --in-place -p roomrobot-core -o $(MUTANTS) \
	  $(foreach path,$(ONLY),--re '^crates/core/src/$(path)') $(if $(SHARD),--shard $(SHARD) --sharding round-robin) || [ $$? = 3 ]

simulator: ## Run the room engine simulator; ARGS="--app 1400000000=KEY" gives it an application
	cargo run --locked -q -p testbed --bin room-engine-simulator -- $(ARGS)

plugin: ## Pack kubectl roomrobot for copying and for krew into target/krew; ARCH="amd64 arm64", BASE=URL where archives will be
	deploy/krew/pack $(or $(CARGO_TARGET_DIR),target)/krew "$(or $(BASE),https://example.com)" \
	  $(or $(ARCH),$(if $(filter aarch64,$(shell uname -m)),arm64,amd64))

picture: assets ## Draw docs/images/dashboard.png from a real drain with matplotlib; needs Python 3.11 with venv
	cargo build --locked -p roomrobot-operator -p bench
	$(BIN)/dashboard docs/images/dashboard.png

# The operator as it ships: static, stripped, built alone so that nothing of the testbed changes it.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

bench: assets ## Measure on this machine, beside its limit; BENCH="a c" picks scenarios, N="2000 10000" sizes
	RUSTFLAGS="-C target-feature=+crt-static" \
	  cargo build --locked --release --target $(HOST) -p roomrobot-operator --bin roomrobot-operator
	cargo build --locked --profile tools -p bench -p testbed --bin bench --bin room-engine-simulator
	$(or $(CARGO_TARGET_DIR),target)/tools/bench --json $(or $(CARGO_TARGET_DIR),target)/bench.json \
	  --operator $(or $(CARGO_TARGET_DIR),target)/$(HOST)/release/roomrobot-operator

image: ## Build the image with buildah, check what is in it, and run it; needs root, buildah, runc; ARGS="--profile image" is quick
	cargo run --locked -q -p e2e --bin image -- $(ARGS)

e2e: ## Install, use and remove the operator on the cluster of KUBECONFIG; needs E2E_LOAD, see docs/e2e.md
	cargo run --locked -q -p e2e --bin e2e -- $(ARGS)

clean: ## Remove what cargo built; the control plane's programs stay in the cache folder
	cargo clean
