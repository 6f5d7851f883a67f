# Each goes through tools/setup.sh, which PYTHON=... tells another interpreter.
.PHONY: lint fast test

lint: # style, format, types, imports
	bash tools/lint.sh

fast: lint # and the quick tests of ops, layers and models: no processes, no compilers, no toolboxes
	bash tools/run_tests.sh -m 'not slow and not processes' tests/ops tests/layers tests/models

test: # everything
	bash tools/run_tests.sh
