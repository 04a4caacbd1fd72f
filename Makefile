# Everything a newcomer needs: `make serve` and `make test` install what is missing, build and run.

# The Swift runtime is linked in: the program then runs without one, and takes 5 MB less.
SWIFT_BUILD = swift build -c release --static-swift-stdlib --product sluice
PYTEST = ../../.build-venv/bin/python -m pytest
# Most end-to-end tests wait most of the time: two files at once.
PYTEST_TWO = $(PYTEST) -n 2 --dist loadfile

# Each builds alone.
LAYERS = Wire Commands Negotiation Transport Forwarding Worker Control sluice sluice-load

.PHONY: serve build test test-unit test-e2e networks simulate cases measure test-asan test-tsan bench fuzz format lint

# Arguments after ARGS= go to `sluice serve`, such as ARGS="--http-listen 127.0.0.1:9000".
serve: build
	exec .build/release/sluice serve $(ARGS)

build:
	Scripts/install-dependencies serve
	$(SWIFT_BUILD)

test: test-unit test-e2e

test-unit:
	Scripts/install-dependencies test
	swift test
	for layer in $(LAYERS); do swift build --target $$layer || exit 1; done

# TESTS= picks some, such as TESTS="test_known_pictures.py -k VP8". What is about time or memory runs by itself.
test-e2e:
	Scripts/install-dependencies test
	$(SWIFT_BUILD)
	$(SWIFT_BUILD)-load
ifdef TESTS
	cd Tests/EndToEnd && $(PYTEST) $(TESTS)
else
	cd Tests/EndToEnd && $(PYTEST_TWO) -m "not uninstrumented and not networks"
	cd Tests/EndToEnd && $(PYTEST) -m uninstrumented
endif

# What viewers see on networks of all kinds, each RUNS times, for the table of Docs/WhatViewersGet.md. SLUICE_TRACE=1 tells what the server
# thinks meanwhile.
networks:
	Scripts/install-dependencies test
	$(SWIFT_BUILD)
	cd Tests/EndToEnd && for run in $$(seq $(or $(RUNS),3)); do $(PYTEST) test_networks.py || exit 1; done

# Calls over so many networks that seeds make up; `make test` tries 300 of them. SLUICE_SCENARIO= tries one, and tells of it.
simulate:
	Scripts/install-dependencies test
	SLUICE_SCENARIOS=$(or $(COUNT),10000) swift test --filter ScenarioTests

# RFC 8867's cases in the simulation, for the table and the charts of Docs/Performance.md.
cases:
	Scripts/install-dependencies test
	mkdir -p .build-cases
	SLUICE_CASES=$(CURDIR)/.build-cases swift test --filter CongestionCaseTests | tee .build-cases/output.txt
	python3 Benchmarks/Networks/report.py .build-cases

# The end-to-end tests on a machine that does nothing else: a time or a rate that is not as promised fails. Elsewhere it is only told.
measure:
	Scripts/install-dependencies test
	$(SWIFT_BUILD)
	$(SWIFT_BUILD)-load
	cd Tests/EndToEnd && SLUICE_MEASURE=1 $(PYTEST) $(TESTS)

# The end-to-end tests against a server that checks its memory, and one that checks its threads. Both are slower, so what
# is about memory use is left out and what is about time gets more of it.
test-asan:
	Scripts/install-dependencies test
	swift build --build-path .build-asan --sanitize=address --product sluice
	cd Tests/EndToEnd && SLUICE_PATIENCE=3 SLUICE_PROGRAM=../../.build-asan/debug/sluice \
	    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 $(PYTEST_TWO) -m "not uninstrumented and not networks" $(TESTS)

test-tsan:
	Scripts/install-dependencies test
	swift build --build-path .build-tsan --sanitize=thread --product sluice
	cd Tests/EndToEnd && SLUICE_PATIENCE=3 SLUICE_PROGRAM=../../.build-tsan/debug/sluice \
	    TSAN_OPTIONS="halt_on_error=1 suppressions=$(CURDIR)/Tests/EndToEnd/thread-sanitizer.txt" $(PYTEST_TWO) -m "not uninstrumented and not networks" $(TESTS)

# Takes a quarter of an hour and the whole machine, and writes its figures into Docs/Performance.md. ONLY= picks some, such as
# ONLY="audience memory".
bench:
	Scripts/install-dependencies bench
	Benchmarks/run $(ONLY)

# SECONDS= is how long each parser is fuzzed.
fuzz:
	Scripts/install-dependencies serve
	Tests/Fuzz/run $(or $(SECONDS),60)

format:
	swift format --in-place --recursive --parallel Package.swift Sources Tests Benchmarks

lint:
	swift format lint --strict --recursive --parallel Package.swift Sources Tests Benchmarks
