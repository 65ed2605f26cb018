# Everything a person does with the project. Each target installs what it needs first (tools/setup.sh).
.DEFAULT_GOAL := help
SHELL := bash
HOME_DIR ?= .dividend
DIVIDEND := target/debug/dividend
MODEL ?= .cache/models/smollm2-135m-instruct-q4_1.gguf
BENCH_MODELS ?= $(MODEL)
FORGE := node_modules/@foundry-rs/forge-linux-amd64/bin/forge
# Examples use the tests' dependencies: with them, this and `make test` build candle, alloy and the rest the same way, once.
BUILD := cargo build --locked --workspace --bins --examples
# nextest when it is there: it isolates tests in processes and shows what is slow.
RUST_TESTS := $(shell cargo nextest --version >/dev/null 2>&1 && echo nextest run --no-fail-fast || echo test --no-fail-fast)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: demo
demo: ## the whole idea on real parts: model, chain, Redis, clients, money
	tools/setup.sh demo
	$(BUILD)
	.cache/venv/bin/python demo/run.py --dividend $(DIVIDEND)

.PHONY: up
up: ## start a stack in .dividend and wait until it answers (HOME_DIR=… for another home)
	tools/setup.sh demo
	$(BUILD)
	$(DIVIDEND) --home $(HOME_DIR) up --detach

.PHONY: down
down: ## stop that stack
	$(DIVIDEND) --home $(HOME_DIR) down

.PHONY: test
test: ## every test: contracts, Rust, the whole stack, the browser
	tools/setup.sh test
	$(MAKE) test-contracts test-rust

.PHONY: test-contracts
test-contracts: ## forge tests, golden vectors, committed ABIs
	python3 fixtures/generate.py --check
	cd contracts && $(FORGE) test
	cd contracts && tools/abi.sh --check

.PHONY: test-rust
test-rust: ## all Rust tests
	cargo $(RUST_TESTS) --locked --workspace

# AddressSanitizer needs an unstable flag of rustc, which RUSTC_BOOTSTRAP allows on stable, and no standard library of its
# own; everything is built once more in target/sanitize, dependencies lightly optimised. Valgrind looks at the tests' usual build.
SANITIZED := $(addprefix --skip ,golden::smollm2 golden::gemma3 reference::real reference::greedy emulated)
.PHONY: sanitize
sanitize: ## the kernels' tests under AddressSanitizer, and under Valgrind where it is installed
	tools/setup.sh test
	CARGO_TARGET_DIR=target/sanitize RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --locked \
		--package dividend-engine --test packed --target x86_64-unknown-linux-gnu \
		--config 'profile.dev.package."*".opt-level=1' -- $(SANITIZED)
	! command -v valgrind >/dev/null || CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --quiet --error-exitcode=1" \
		cargo test --locked --package dividend-engine --test packed -- golden::tiny

.PHONY: bench
bench: ## figures of engine, gateway and meter, as JSON lines; run it on a quiet machine
	tools/setup.sh demo
	$(BUILD)
	$(DIVIDEND) bench engine --model $(MODEL) --json
	target/debug/examples/overhead
	target/debug/examples/bench

.PHONY: bench-engine
bench-engine: ## tokens per second of our kernels, stock candle and llama.cpp (if there: tools/setup.sh bench)
	tools/setup.sh demo
	$(BUILD)
	python3 tools/bench_engine.py --dividend $(DIVIDEND) $(BENCH_MODELS)

.PHONY: lint
lint: ## formatting, clippy and documentation, warnings refused
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

.PHONY: abi
abi: ## rewrite contracts/abi from the sources
	cd contracts && tools/abi.sh
