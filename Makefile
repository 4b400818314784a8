# docker bottle: "make" builds the plugin, "make demo" shows it, "make test" runs every test.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

export VERSION COMMIT

LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
PLUGIN_DIR = $(or $(DOCKER_CONFIG),$(HOME)/.docker)/cli-plugins
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

.PHONY: all
all: bin/docker-bottle

.PHONY: bundle
bundle: ## compile the default bundle's binaries, which the plugin carries
	scripts/build-bundle

.PHONY: bin/docker-bottle
bin/docker-bottle: bundle ## build the plugin for this machine
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/docker-bottle

.PHONY: install
install: bin/docker-bottle ## install the plugin where this user's docker finds it
	install -d '$(PLUGIN_DIR)'
	install -m 755 bin/docker-bottle '$(PLUGIN_DIR)/docker-bottle'

.PHONY: demo
demo: install ## bring a bottle up, use it, and take it down
	scripts/demo

.PHONY: test
test: bin/docker-bottle ## run every test, those on the real engine included
	scripts/test

.PHONY: bench
bench: bin/docker-bottle ## run the benchmarks
	scripts/bench

.PHONY: check
check: bundle ## vet, format, lint, documentation, cross-builds
	go vet ./...
	go vet -tags e2e ./...
	test -z "$$(gofmt -l . | tee /dev/stderr)"
	go run $(STATICCHECK) -tags e2e ./...
	scripts/vulncheck $(GOVULNCHECK)
	go mod verify
	go mod tidy -diff
	$(MAKE) --no-print-directory cross

.PHONY: cross
cross: bundle $(PLATFORMS) ## compile the plugin for every platform

.PHONY: $(PLATFORMS)
$(PLATFORMS):
	CGO_ENABLED=0 GOOS=$(@D) GOARCH=$(@F) go build -trimpath -ldflags '$(LDFLAGS)' \
		-o bin/$(@D)-$(@F)/docker-bottle$(if $(filter windows,$(@D)),.exe) ./cmd/docker-bottle

.PHONY: docs
docs: ## write the command reference anew; the tests compare it
	go test ./cmd/docker-bottle -run TestReference -update

.PHONY: clean
clean:
	rm -rf bin pkg/sidecars/context/*.gz

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z/-]*\):.*## \(.*\)/\1\t\2/p' Makefile
