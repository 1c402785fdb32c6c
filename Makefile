# Everything works on a fresh clone with Python 3.11 or 3.12 and make:
#
#   make lab       open the workbench in JupyterLab
#   make app       serve the same notebook as an app, with Voila
#   make test      lint, types, layers, tests, notebooks
#   make check     lint, types, layers
#   make format    format the code
#
# Set-up runs once, and again when pyproject.toml changes. Choices for the first call:
#   TORCH_INDEX=cpu      the small CPU build of torch instead of PyPI's CUDA build (any folder of
#                        https://download.pytorch.org/whl, for example cu126)
#   PYTHON=...           the Python that makes the environment
#   VENV=...             where the environment is, .venv by default
# For lab and app:
#   FLAGS=...            added to the server's command line, for example FLAGS="--no-browser --port=9000"

VENV ?= .venv
TORCH_INDEX ?=
NOTEBOOK := notebooks/workbench.ipynb
BIN := $(VENV)/bin
READY := $(VENV)/.lic-lab-ready
SUPPORTED := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))

# Each candidate is run, not only looked up: pyenv puts names on the PATH that refuse to start.
PYTHON ?= $(firstword $(foreach p,python3.12 python3.11 python3,$(shell $(p) -c '$(SUPPORTED)' 2>/dev/null && echo $(p))))

# Jupyter won't start as root, as in a container, unless told to.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help lab app test check format
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^Each candidate/,$$d'

lab: $(READY)
	$(BIN)/jupyter lab $(NOTEBOOK) --ServerApp.ip=127.0.0.1 \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate $(ROOT) $(FLAGS)

# Voila has no token unless asked for one; with --token it draws one and prints it with the address. The template is
# Voila's own without the icons that it fetches from a content network.
app: $(READY)
	JUPYTER_PATH=$(CURDIR)/notebooks/share$${JUPYTER_PATH:+:$$JUPYTER_PATH} \
		$(BIN)/voila $(NOTEBOOK) --template=lic-lab --token --Voila.ip=127.0.0.1 $(FLAGS)

test: check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest --nbval-lax notebooks

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml | $(BIN)/python
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install torch torchvision --index-url https://download.pytorch.org/whl/$(TORCH_INDEX))
	$(BIN)/python -m pip install --editable '.[dev]'
	$(BIN)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements  # no news fetched
	@touch $@

$(BIN)/python:
	@$(if $(PYTHON),true,echo 'lic-lab needs Python 3.11 or 3.12, and found neither python3.12 nor python3.11 nor a' \
		'python3 of these versions. Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12' >&2; exit 1)
	$(PYTHON) -m venv $(VENV)
