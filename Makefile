# Two commands matter: `make reproduce` and `make test`. Each sets up all it needs (Python 3.11+, make and git are enough).

PYTHON  ?= python3
PROFILE ?= demo
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed

# Compiled bytecode saves ten seconds at every start of torch; some systems switch it off.
export PYTHONDONTWRITEBYTECODE =

.PHONY: setup reproduce test lab bench fuzz lock clean

setup: $(STAMP)

# uv installs the locked environment in half a minute and shares files between environments; pip brings it where it is absent.
$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -r requirements.txt
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

reproduce: setup
	$(BIN)/python -m nbcore run all --profile $(PROFILE)

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --durations=10
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=300 notebooks

lab: setup
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks

bench: setup
	$(BIN)/python -m tests.benchmarks

# Every reader on 500 random damages of its data set (`make test` tries 60, always the same).
fuzz: setup
	NBCORE_EXAMPLES=500 $(BIN)/python -m pytest tests/data/test_damage.py

# A new exact lock of all dependencies, for all platforms.
lock: setup
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --extra test pyproject.toml --output-file requirements.txt --custom-compile-command "make lock"

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis *.egg-info results/cache results/smoke results/demo results/open results/paper
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
