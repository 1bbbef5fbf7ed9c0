# make image   a golden image from nothing: tools, mirror, build, boot
# make test    everything .ci/run runs
# Both install what they need (scripts/deps.sh) and work on a fresh Debian as root.

CACHE    ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kldload
DARKSITE ?= $(CACHE)/darksites/bookworm
PROFILE  ?= server
OUTPUT   ?= output
TEMPLATE ?= packer/kldload-server
export CGO_ENABLED := 0
KLDLOAD  := bin/kldload
TOOLS    := $(CACHE)/tools

.PHONY: all build deps darksite image test lint unit fuzz-seeds integration clean

all: build

build:
	go build -trimpath -o $(KLDLOAD) ./cmd/kldload
	ln -sf kldload bin/kexport
	ln -sf kldload bin/kldload-install-target

deps:
	scripts/deps.sh

# The only step that uses the network. Finished, it does nothing.
darksite: deps build
	$(KLDLOAD) darksite create --distro debian --release bookworm --profile core --profile server \
		--kernel generic --output $(DARKSITE)

image: darksite
	$(KLDLOAD) build -force -var darksite=$(DARKSITE) -var output_dir=$(OUTPUT) \
		-var-file=$(TEMPLATE)/profiles/$(PROFILE).pkrvars.hcl $(TEMPLATE)

test: deps lint unit integration image

lint: build
	cd tools && go build -o $(TOOLS)/ tool
	test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./... && go vet -tags integration ./test/...
	$(TOOLS)/staticcheck -tags integration ./...
	$(TOOLS)/depguard ./...
	go mod verify >/dev/null && go mod tidy -diff

# Unit tests, testscripts and the seeds of every fuzz test.
unit: deps build
	scripts/gotest.sh -count=1 ./...

integration: darksite
	KLDLOAD_BIN=$(abspath $(KLDLOAD)) KLDLOAD_DARKSITE=$(DARKSITE) \
		go test -count=1 -tags integration -timeout 45m -v ./test/...

clean:
	rm -rf bin
