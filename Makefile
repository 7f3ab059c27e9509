# Two commands on a fresh machine: `make demo` and `make test`. Needs Python >= 3.11; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TAG ?= 0.1.0

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-kube images test-images test-cluster test-mesh lint types layers check parity acceptance bench bench-kube protos clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is " + sys.version.split()[0] + "; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

setup: $(STAMP) ## The local virtual environment, with Envoy

demo: $(STAMP) ## Real traffic through a real Envoy, each step checked
	$(BIN)/pypilot demo

test: $(STAMP) ## All tests
	$(BIN)/python -m pytest -n auto

test-kube: $(STAMP) ## Those on a real API server, which is built with Go if need be (KUBEBUILDER_ASSETS=DIR)
	$(BIN)/python -m pytest e2e/kube -v -rs

images: ## The container images pypilot, pypilot-proxy and pypilot-sidecar, with Docker (TAG=0.1.0, BUILD_ARGS=…)
	DOCKER_BUILDKIT=1 docker build $(BUILD_ARGS) -f deploy/images/pypilot.Dockerfile -t pypilot:$(TAG) --build-arg VERSION=$(TAG) .
	DOCKER_BUILDKIT=1 docker build $(BUILD_ARGS) -f deploy/images/proxy.Dockerfile -t pypilot-proxy:$(TAG) deploy/images
	DOCKER_BUILDKIT=1 docker build $(BUILD_ARGS) -f deploy/images/sidecar.Dockerfile -t pypilot-sidecar:$(TAG) --build-arg VERSION=$(TAG) \
	  --build-arg PROXY_IMAGE=pypilot-proxy:$(TAG) .

test-images: $(STAMP) ## Images and docker-compose on a Docker engine
	$(BIN)/python -m pytest e2e/images -v -rs

test-cluster: $(STAMP) ## In the cluster that KUBECONFIG names (docs/kind.md)
	PYPILOT_E2E_KUBECONFIG="$${PYPILOT_E2E_KUBECONFIG:-$$KUBECONFIG}" $(BIN)/python -m pytest e2e/cluster -v -rsP

test-mesh: $(STAMP) ## Pods with agents and Envoys in network namespaces: identity and policy (root on Linux)
	$(BIN)/python -m pytest e2e/mesh -v -rs

lint: $(STAMP) ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## Strict types
	$(BIN)/mypy

layers: $(STAMP) ## The rules between rooms
	$(BIN)/lint-imports

check: lint types layers test ## Everything that CI checks

parity: $(STAMP) ## Compare with recorded istiod answers (SCOPE=all|traffic, RECORDINGS=DIR, SOURCE=files|kube)
	$(BIN)/python -m bench.parity $(if $(SCOPE),--scope $(SCOPE)) $(if $(RECORDINGS),--recordings $(RECORDINGS)) $(if $(SOURCE),--source $(SOURCE))

acceptance: $(STAMP) ## A real Envoy takes everything of every recording (root on Linux)
	$(BIN)/python -m bench.acceptance $(if $(RECORDINGS),--recordings $(RECORDINGS))

bench: $(STAMP) ## Figures: compile, recompile, connect storms, memory
	$(BIN)/python -m bench

bench-kube: $(STAMP) ## Figures on a real API server: start, memory, a change to the wire
	$(BIN)/python -m bench.kube

protos: ## Generate pypilot/wire/pb from protos/, with a compiler old enough for every protobuf that we allow
	$(PYTHON) -m venv .protos
	.protos/bin/pip install --quiet --disable-pip-version-check grpcio-tools==1.76.0 mypy-protobuf==3.6.0
	PATH=$(CURDIR)/.protos/bin:$$PATH .protos/bin/python -m grpc_tools.protoc --proto_path=pypilot/wire/pb=protos \
	  --python_out=. --mypy_out=quiet:. $(patsubst protos/%,pypilot/wire/pb/%,$(wildcard protos/*.proto))
	rm -rf .protos

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
