# `make demo` and `make test` need only Python, make and a C++ compiler: the first target makes the environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CXX_FILES = $(shell find csrc tests/cpp -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

# pip's cmake and ninja live in the environment's bin folder
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test build bench gpu-check lint format sanitize clean

demo: build
	$(BIN)/pyfast-mmcl demo

# One process per core, each with one OpenMP thread: spinning threads of several processes would stand in each other's way.
test: build
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

# The build tools come first and isolation is off, so that this build and `make build` share one incremental build folder.
$(VENV)/.installed: pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) setuptools wheel pybind11 cmake ninja
	$(INSTALL) --no-build-isolation -e ".[test,dev]"
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	PYFAST_NATIVE=OFF $(INSTALL) --no-build-isolation -e ".[bench]"
	touch $@

build: $(VENV)/.installed
	$(BIN)/python setup.py --quiet build_ext --inplace

bench: build $(VENV)/.bench
	$(BIN)/python -m pytest benchmarks/test_ops_benchmark.py -q --benchmark-columns=min,median
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

gpu-check: build $(VENV)/.bench
	$(BIN)/python -m benchmarks.gpu_check

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

sanitize: sanitize-address,undefined sanitize-thread

sanitize-%: $(VENV)/.installed
	cmake -S . -B build/$@ -G Ninja -DPYFAST_SANITIZE=$* -DPYFAST_CUDA=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo \
		-DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja
	cmake --build build/$@
	ctest --test-dir build/$@ --output-on-failure

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis $(VENV)/.installed $(VENV)/.bench
	rm -f pyfast_mmcl/_C*.so
	find pyfast_mmcl tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
