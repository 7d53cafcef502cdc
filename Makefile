# Two commands do all the set-up they need: make demo, make test.
PY := .venv/bin/python
export SEALGATE_CACHE ?= $(HOME)/.cache/sealgate
export CARGO_TARGET_DIR ?= $(SEALGATE_CACHE)/cargo-target
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint fmt rego native docs bench fuzz lock clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: ## virtual environment, locked dependencies, native module
	@tools/bootstrap

demo: setup ## the whole story on real parts: an agent's psql, a reviewer, evidence verified and tampered with
	@tools/system-packages demo
	@.venv/bin/sealgate demo

test: setup ## everything CI runs: lint, types, layers, Rust, Rego, conftest, Python
	@tools/system-packages test
	@$(MAKE) --no-print-directory lint native rego
	$(PY) -m pytest -q -n 2 --dist loadfile

lint: setup ## ruff, mypy, import layers
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

fmt: setup ## format Python, Rust and Rego, and list the Rego in its manifest again
	.venv/bin/ruff check --fix-only --quiet .
	.venv/bin/ruff format .
	cd native && cargo fmt --all
	"$$(tools/build opa)" fmt -w rego conftest
	.venv/bin/sealgate policy bundle rego

native: setup ## format check, clippy and tests of the Rust kernels
	cd native && cargo fmt --all --check
	. tools/rust-env && cd native && cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	. tools/rust-env && cd native && cargo test --quiet --locked --workspace --exclude sealgate-native

rego: setup ## format, strict check, tests on OPA, coverage, Regal, conftest
	tools/check-rego

docs: setup ## write the generated parts of the documentation again
	$(PY) tools/generate-docs

bench: setup ## speed beside its peers in the same run
	@tools/system-packages bench
	@.venv/bin/sealgate bench

fuzz: setup ## run each fuzz target for a minute (needs cargo-fuzz and a nightly toolchain)
	. tools/rust-env && cd native && for target in sql postgres mask policy; do cargo +nightly fuzz run $$target -- -max_total_time=60 || exit 1; done

lock: setup ## resolve the dependencies again, with hashes
	.venv/bin/uv pip compile -q --universal --python-version 3.13 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock
	.venv/bin/uv pip compile -q --universal --python-version 3.13 --generate-hashes --no-emit-index-url --no-annotate --no-header --group dev pyproject.toml -o requirements-dev.lock

clean: ## remove what the other targets made in this folder
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist native/target *.so
