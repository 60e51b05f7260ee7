# Start with `make demo` and `make test`. Both install their requirements into .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= scratch/demo
WORKERS ?= 2

.PHONY: demo test test-soak test-vllm lint docs site benchmarks clean help

help:
	@echo "make demo        build the synthetic demo study in $(DEMO) and print the path of its report"
	@echo "make test        run the linters, type checks, import contracts and tests"
	@echo "make test-soak   kill a collection two hundred times and check its answers (about ten minutes)"
	@echo "make test-vllm   test against real vLLM servers with tiny models (CPU build in .venv-vllm; minutes)"
	@echo "make docs        update every generated file"
	@echo "make site        build the documentation site in scratch/site (MkDocs in .venv-docs)"
	@echo "make benchmarks  compare speed with other packages (minutes)"
	@echo "make clean       remove the virtual environments and scratch/"

$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "== installing into $(VENV) (three to five minutes the first time)"
	@command -v $(PYTHON) >/dev/null || { echo "affectlake needs Python 3.11, and there is no $(PYTHON); name one: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(VENV)/.installed
	@echo "== building the synthetic demo study in $(DEMO)"
	@rm -rf $(DEMO)
	@$(BIN)/affectlake init $(DEMO) --study demo
	@$(BIN)/affectlake run --lake $(DEMO)

lint: $(VENV)/.installed
	@echo "== ruff, mypy, import contracts"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: lint
	@echo "== tests"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-soak: $(VENV)/.installed
	@echo "== two hundred kills (about ten minutes)"
	@$(BIN)/python -m pytest -s -m soak

.venv-vllm/.installed: tests/vllm/requirements.lock
	@echo "== installing the CPU build of vLLM into .venv-vllm (several minutes the first time)"
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

test-vllm: $(VENV)/.installed .venv-vllm/.installed
	AFFECTLAKE_VLLM_PYTHON=.venv-vllm/bin/python $(BIN)/python -m pytest -s --durations=0 tests/vllm

docs: $(VENV)/.installed
	$(BIN)/python -m affectlake.generated

.venv-docs/.installed: docs/requirements.lock
	@echo "== installing MkDocs into .venv-docs"
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

site: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict
	@echo "open scratch/site/index.html, or, to search: python -m http.server --directory scratch/site"

benchmarks: $(VENV)/.installed
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/spose.py
	$(BIN)/python benchmarks/collection.py

clean:
	rm -rf $(VENV) .venv-vllm .venv-docs scratch
