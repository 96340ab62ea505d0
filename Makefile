# `make plan` and `make test` work from a clean clone: they make .venv, install, and see to headless OpenGL first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
JOBS ?= 2
TESTS ?=
# One thread a process: the tests run in $(JOBS) processes, and small matrices lose by more.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 LP_NUM_THREADS=1

.PHONY: help plan test mutants portable bench lint format types install gl browser docs clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

plan: $(STAMP) gl  ## Reach five goals from pixels; table, figure and video in runs/plan
	$(PY) -m worldplan plan --episodes 5 --out runs/plan

test: $(STAMP) gl browser lint types  ## Lint, type check, and run the whole test suite (TESTS="-k mpc" for a part)
	$(ONE_THREAD) $(PY) -m pytest -n $(JOBS) --dist loadfile --max-worker-restart 2 $(TESTS)

mutants: $(STAMP) gl  ## Plant mistakes in a copy: tests and `worldplan verify` must see each (many minutes)
	$(PY) benchmarks/mutants.py --jobs $(JOBS)

portable: $(STAMP) gl browser  ## The suite under other kernels, threads, orders and load (five runs; TESTS as above)
	bash scripts/portable.sh $(PY) $(JOBS) $(TESTS)

bench: $(STAMP) gl  ## Measure the numbers of benchmarks/README.md anew
	for script in loop collect theorem4; do $(PY) benchmarks/$$script.py; done

lint: $(STAMP)  ## ruff: rules and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(STAMP)  ## Let ruff mend what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(STAMP)  ## mypy on the installed wheel, from an empty directory
	bash scripts/check_types.sh $(PY)

install: $(STAMP)  ## .venv with worldplan, editable, and everything it needs

$(PY):
	python=$$(bash scripts/find_python.sh); "$$python" -m venv --clear $(VENV)

# The exact versions of constraints.txt; without an NVIDIA driver the CPU build of torch.
$(STAMP): pyproject.toml constraints.txt | $(PY)
	bash scripts/install.sh $(PY)
	touch $@

gl: | $(PY)  ## Headless OpenGL (EGL): installs Mesa where it may, or says what to run
	@bash scripts/ensure_gl.sh $(PY)

browser:  ## Chromium, which only the tests of the HTML reports use; never fatal
	@{ command -v chromium && command -v chromedriver; } >/dev/null \
		|| bash scripts/apt_install.sh chromium chromium-driver fonts-dejavu-core \
		|| echo "no chromium: the report tests will be skipped"

docs: $(STAMP)  ## The site: open build/docs/index.html; a warning is an error
	$(PY) -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/docs

clean:  ## Remove everything that make made, the environment too
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
