# Front door. Everything here is a thin call of a script or a CMake preset; what happens is there.
#
#   make demo      install what is missing, build everything, boot a microVM and run a shell in it
#   make build     programs, guest agent, kernel and images into build/
#   make test      build these and the tests, then run every test (unit, integration, end to end)
#   make bench     build, then the benchmarks
#   make lint      formatting, clang-tidy and shellcheck
#   make fuzz      every fuzz target for FUZZ_SECONDS (60)
#   make install   build, then install into PREFIX (/usr/local), below DESTDIR when set
#   make clean     remove build products (the kernel cache stays: it is keyed by content)
#   make deps | kernel | format | check-format
#
# JOBS=N limits parallelism, PRESET=debug|asan|tsan builds another CMake preset.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
# The recipes run things in parallel themselves; two recipes at once would fight over build/.
.NOTPARALLEL:

JOBS ?= $(shell nproc)
PRESET ?= release
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
BUILD := build$(if $(filter-out release,$(PRESET)),-$(PRESET))

.PHONY: demo build test bench lint fuzz install clean deps kernel configure format check-format

demo: build
	scripts/demo.sh $(BUILD)

build: deps
	scripts/build.sh --preset $(PRESET) --jobs $(JOBS)

test: deps
	scripts/build.sh --preset $(PRESET) --jobs $(JOBS) --all
	scripts/test.sh $(PRESET)

bench: deps
	scripts/build.sh --preset $(PRESET) --jobs $(JOBS) --all
	scripts/bench.sh $(BUILD)

lint: deps
	scripts/lint.sh --jobs $(JOBS)

fuzz: deps
	cmake --preset fuzz
	cmake --build --preset fuzz --parallel $(JOBS)
	scripts/fuzz.sh $(FUZZ_SECONDS)

install: build
	DESTDIR="$(DESTDIR)" cmake --install $(BUILD) --prefix "$(PREFIX)"

clean:
	rm -rf build build-debug build-asan build-tsan build-fuzz

deps:
	scripts/install-deps.sh

kernel: deps
	guest/kernel/build.sh --jobs $(JOBS) --output $(BUILD)/lib/microsandbox/vmlinux >/dev/null

configure: deps
	cmake --preset $(PRESET)

format:
	scripts/format.sh

check-format:
	scripts/format.sh --check
