# Two commands do everything on a machine that has Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export RAY_AUTH_MODE ?= disabled
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: demo test slow lint types clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("structgen needs Python 3.11 or newer; found " + sys.version.split()[0] + ": set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/structgen predict data/examples/demo.fasta --msa data/examples/msas --out runs/demo
	@echo "Structures: runs/demo/<job>/<job>_model.cif and .pdb (best sample), one folder a sample beside them."
	$(BIN)/structgen report runs/demo

test: $(VENV)/.installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest

slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed
	$(BIN)/python -m ruff check --fix .

types: $(VENV)/.installed
	$(BIN)/python -m mypy

clean:
	rm -rf $(VENV) runs build dist *.egg-info
