# Everything a developer types. `make` alone lists the targets; each target installs what it needs first.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-all test-oldest check format bench experiments docs wheel clean lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with the locked dependencies and this checkout in it

quickstart: $(STAMP) ## distil the small embedded data set on a CPU, end to end
	$(BIN)/python -m teddy +experiment=quickstart

test: $(STAMP) ## run the tests, without the slow ones
	$(BIN)/python -m pytest -n $(WORKERS) -q -m "not slow"

test-all: $(STAMP) ## run all tests
	$(BIN)/python -m pytest -n $(WORKERS) -q

test-oldest: $(BIN)/uv ## run the tests with the oldest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --seed --allow-existing --python $(BIN)/python build/oldest
	$(BIN)/uv pip install --quiet --python build/oldest/bin/python --resolution lowest-direct -e '.[dev]'
	build/oldest/bin/python -m pytest -n $(WORKERS) -q -m "not slow"

check: $(STAMP) ## lint, formatting, types, import layers, spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy src
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(STAMP) ## repair what ruff can repair, and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP) ## time what people wait for, beside the least it could take (DEVICE=cuda on a GPU)
	$(BIN)/python -m benchmarks $(if $(DEVICE),--device $(DEVICE)) $(if $(ONLY),--only $(ONLY))

experiments: $(STAMP) ## repeat the records in experiments/, or one of them: NAME=figure3a WORDS="dataset.root=..."
	$(BIN)/python scripts/experiments.py $(NAME) -- $(WORDS)

docs: $(STAMP) ## build the documentation into site/
	@# Material announces its successor in every build otherwise.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Always through the sdist: a wheel built straight from the checkout would also pack files that git ignores.
wheel: $(STAMP) ## build dist/*.tar.gz and, from it, dist/*.whl
	$(BIN)/python -m build --no-isolation --outdir dist

clean: ## remove build outputs and caches (never artifacts/ or outputs/)
	rm -rf dist build site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Keeps the versions that still fit; `make lock UPGRADE=--upgrade` takes the newest ones.
lock: $(BIN)/uv ## rewrite requirements.lock from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-annotate --no-header --no-emit-package teddy-distill $(UPGRADE) -o requirements.lock

# The stamp is touched last, so an installation that was cut off is taken up again. hatchling comes from the lock
# like everything else, hence no build isolation. Compiled once here, the libraries load in half the time in every process.
$(STAMP): requirements.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(BIN)/uv:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) was not found; name a Python 3.11 or 3.12: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Teddy needs Python 3.11 or 3.12, and $(PYTHON) is older; name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))' || \
	  echo "Teddy is tested with Python 3.11 and 3.12 only, and $(PYTHON) is newer; trying it all the same." >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments; install its venv module (Debian, Ubuntu: python3-venv)" \
	    "or name another Python: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv>=0.9,<1"
