# One command does everything on a fresh clone: `make studies`, or `make test`. `make help` lists the rest.
# A Debian or Ubuntu machine with git, Python 3.11 to 3.13, python3-venv and make is enough.

SEEDS   ?= 1
FIRST_SEED ?= 0
STUDIES ?= baseline_study epochs_study filter_study depth_study callback_study
PYTHONS ?= python3 python3.13 python3.12 python3.11
UV      ?= uv
# Test processes: more than cores, because tests spend much of their time waiting for servers, browsers and kills.
SIDE_BY_SIDE ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
# What `make quick` runs: no worker, server or browser is started, and TensorFlow is not imported.
QUICK := tests/evidence $(addprefix tests/, \
    $(addprefix cli/test_, actions.py) \
    $(addprefix project/test_, fault_table.py history.py house.py imports.py readme.py setup.py) \
    $(addprefix reports/test_, report_numbers.py) \
    $(addprefix review/test_, archive.py comparison.py difference.py equivalence.py) \
    $(addprefix running/test_, load.py progress.py) \
    $(addprefix science/test_, checkout.py claims.py config.py data.py data_found.py data_refused.py environment.py \
        events.py sample.py study.py timing.py) \
    $(addprefix store/test_, heading.py trajectories.py))

BIN       := .venv/bin
PYTHON    := $(BIN)/python
PACKAGES  := .venv/.packages-stamp
INSTALLED := .venv/.installed-stamp
EXTRAS    := .venv/.extras-stamp
LAB       := .venv/.lab-stamp
# A set-up that was copied or moved runs the code that it was made for, if any; one whose Python is gone, nothing.
MOVED     := $(shell [ ! -e $(PACKAGES) ] || $(PYTHON) -c \
    'import os; assert f" {os.getcwd()}/.venv\n" in open(".venv/pyvenv.cfg").read()' 2>/dev/null || echo yes)
SUDO      := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Whatever else a user's pip is told, it installs into .venv.
export PIP_USER := 0
unexport PIP_TARGET PIP_PREFIX PIP_ROOT

.DEFAULT_GOAL := help
.PHONY: $(if $(MOVED),$(PACKAGES)) help setup extras data studies quick test soak thorough style check emulated replay benchmark notebooks lab ui report lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

setup: $(INSTALLED) data ## set up: virtual environment in .venv, locked packages, bytecode, data set

extras: $(INSTALLED) $(EXTRAS) ## also install what a Ray cluster and a tracking server need

studies: setup ## train and record the post's five studies (STUDIES=all SEEDS=20 FIRST_SEED=10; SMOKE=1: a trial)
	@$(BIN)/fashion-cnn run $(STUDIES) --seeds $(SEEDS) --first-seed $(FIRST_SEED) $(if $(filter-out 0,$(SMOKE)),--smoke) $(ARGS)

test: setup style ## set up, check the style and run the tests (ARGS="-k ..." to select some)
	@$(BIN)/pytest -n $(SIDE_BY_SIDE) --dist loadfile --no-loadscope-reorder $(ARGS)

quick: $(INSTALLED) ## what to run while editing, in under a minute: lint, import contracts, the quick tests
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pytest -q -n $(SIDE_BY_SIDE) --dist loadfile -m "not slow and not soak and not thorough" $(QUICK) $(ARGS)

soak: $(INSTALLED) ## half an hour of tests that kill and restart (SOAK_SEEDS=10; FAULT_SEED=... repeats the same kills)
	@$(BIN)/pytest -m soak -s $(ARGS)

thorough: $(INSTALLED) ## run the tests of scaling, speed and reuse that `make test` leaves out
	@$(BIN)/pytest -m thorough $(ARGS)

style: $(INSTALLED) ## check lint, format, types and the import contracts
	@echo "style: ruff, mypy, import-linter"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

# Not part of `test`: a vulnerability published tomorrow must not stop anyone from testing today's code.
check: style ## check the style, and the locked packages for known vulnerabilities (needs osv.dev)
	@$(PYTHON) .ci/audit.py

emulated: setup ## the known answers under emulated processors (needs qemu-user; minutes each)
	@$(PYTHON) -m fashion_cnn.known_answers --emulated Haswell Skylake-Client EPYC

replay: setup ## train a seed of the published runs again, compare bit by bit (STUDY=filter_study; EPOCHS=1: a part)
	@$(BIN)/fashion-cnn replay --published $(STUDY) $(if $(EPOCHS),--epochs $(EPOCHS)) $(ARGS)

benchmark: setup ## measure the speed, into experiments/results (an hour or more; ARGS=--scaling for scaling)
	@$(PYTHON) -m experiments.benchmark --output experiments/results $(ARGS)

notebooks: setup ## rebuild the notebooks from their .py files and run them on the published results
	@env -u MLFLOW_TRACKING_URI $(PYTHON) notebooks/execute.py $(ARGS)

lab: $(INSTALLED) $(LAB) ## open the notebooks in JupyterLab, on this machine only (ARGS=--no-browser)
	@$(BIN)/jupyter lab --notebook-dir=notebooks $(ARGS)

ui: $(INSTALLED) ## serve your runs and the published ones in MLflow's UI (STUDY=filter_study)
	@$(BIN)/fashion-cnn ui --published $(STUDY)

report: $(INSTALLED) ## write the report of your own runs, or of the published ones where there are none yet
	@$(BIN)/fashion-cnn report --or-published $(ARGS)

LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command "make lock" pyproject.toml

# A lock of some extras, without what requirements.lock has.
define LOCK_OF_EXTRAS
@$(LOCK) $(1) --constraint requirements.lock -o $(2) $(ARGS) \
    $$(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements.lock)
@sed -i '/^# The following packages were excluded/,$$d' $(2)
endef

lock: ## pin every package anew in the three lock files (needs uv; ARGS=--upgrade for newer versions)
	@$(LOCK) --group dev -o requirements.lock $(ARGS)
	$(call LOCK_OF_EXTRAS,--extra cluster --extra server,requirements-cluster.lock)
	$(call LOCK_OF_EXTRAS,--extra lab,requirements-notebook.lock)

clean: ## remove the virtual environment and caches; recorded runs stay
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An interrupted set-up has no stamp and starts again from an empty environment. The lock is complete, so pip need not
# resolve anything. compileall uses every core, where pip would use one; some packages ship files that are not Python 3.
$(PACKAGES): requirements.lock
	@found= lacks=; for python in $(PYTHONS); do \
	    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
	    $$python -c 'import ensurepip, venv' 2>/dev/null && found=$$python && break; \
	    : $${lacks:=$$($$python -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')}; \
	done; \
	if [ -n "$$found" ]; then \
	    echo "setup: virtual environment in .venv, $$($$found --version)"; \
	    $$found -m venv --clear .venv; \
	elif [ -n "$$lacks" ]; then \
	    echo "setup: this Python cannot make a virtual environment: apt-get install $$lacks" >&2; exit 2; \
	else \
	    echo "setup: Python 3.11, 3.12 or 3.13 is needed; none is among: $(PYTHONS)" >&2; exit 2; \
	fi
	@echo "setup: locked packages (one to three minutes)"
	@$(PYTHON) -m pip install -q --no-compile --no-deps --require-hashes -r requirements.lock
	@echo "setup: bytecode"
	@$(PYTHON) -m compileall -qq -j 0 -x /tests/ .venv/lib/python3*/site-packages || true
	@touch $@

$(EXTRAS): $(PACKAGES) requirements-cluster.lock
	@echo "setup: Ray, and what a tracking server needs"
	@$(PYTHON) -m pip install -q --no-compile --no-deps --require-hashes -r requirements-cluster.lock
	@touch $@

$(LAB): $(PACKAGES) requirements-notebook.lock
	@echo "setup: JupyterLab"
	@$(PYTHON) -m pip install -q --no-compile --no-deps --require-hashes -r requirements-notebook.lock
	@touch $@

$(INSTALLED): $(PACKAGES) pyproject.toml
	@echo "setup: fashion-cnn itself"
	@$(PYTHON) -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

# Where the download reaches no host, a package of Debian and Ubuntu has the same data.
data: $(INSTALLED)
	@echo "setup: data set"
	@$(PYTHON) -m fashion_cnn.download && exit; \
	[ -z "$$FASHION_MNIST_DIR" ] && command -v apt-get >/dev/null && [ -n "$(SUDO)" -o "$$(id -u)" = 0 ] || exit 2; \
	echo "setup: data set, from the package dataset-fashion-mnist"; \
	$(SUDO) apt-get update -qq; \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq dataset-fashion-mnist >/dev/null && \
	    $(PYTHON) -m fashion_cnn.download
