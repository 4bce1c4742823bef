# The verbs of this repository. `make` alone lists them.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test unit matrix fmt fmt-check lint assets crds docs deny simulator clean

BIN := $(or $(CARGO_TARGET_DIR),target)/debug

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## Show the main job from nothing to the end; KEEP=1 leaves everything running
	cargo build --locked -p roomrobot-operator -p testbed
	$(BIN)/demo $(if $(filter-out 0,$(KEEP)),--keep)

test: fmt-check lint assets ## Check everything that CI checks
	cargo test --locked --workspace

unit: ## Run the tests that need no control plane
	cargo test --locked --workspace --lib --bins

matrix: assets ## Run the reliability matrix ROUNDS times in a row, 10 unless told
	for round in $$(seq $(or $(ROUNDS),10)); do \
	  cargo test --locked --test integration -- reliability one_call nothing_lost nothing_stuck program quota || exit 1; \
	done

fmt: ## Format the code
	cargo fmt --all

fmt-check: ## Check the format of the code
	cargo fmt --all -- --check

lint: ## Run clippy; a warning is an error
	cargo clippy --locked --workspace --all-targets -- -D warnings

assets: ## Build the control plane's programs, once, and print their folder
	cargo run --locked -q -p testbed --bin testbed-assets

crds: ## Write crds/*.yaml from the types in src/crd
	UPDATE_CRDS=1 cargo test --locked --lib crd::tests

docs: ## Write the tables of docs/ that come from the code
	UPDATE_DOCS=1 cargo test --locked --lib docs

deny: ## Check licenses, versions and advisories of the dependencies; needs cargo-deny
	cargo deny --locked check

simulator: ## Run the room engine simulator; ARGS="--app 1400000000=KEY" gives it an application
	cargo run --locked -q -p testbed --bin room-engine-simulator -- $(ARGS)

clean: ## Remove what cargo built; the control plane's programs stay in the cache folder
	cargo clean
