# make demo     the main job against a local tenant: builds, plays, cleans up
# make test     everything that is tested, on Mosquitto 2.0.11, 2.0.21 and 2.1.2
# make races    the plugin under ThreadSanitizer: part of make test
# make fuzz     what comes from outside, compared with oracles by libFuzzer: a little of it is part of make test
# make plugin   the plugin for use, target/release/libmosquitto_auth0.so
# make tool     the operator's tool, target/release/mosquitto-auth0, and the module by which mosquitto_ctrl runs it
# make deb      the Debian package, in target/debian
# make packages .deb, .rpm and archives for amd64 and arm64, glibc and musl, in target/packages/release
# make test-packages   installs and uses those: three Debian releases, rpm, musl, arm64
# make faults   what happens when something fails, on each broker: a table
# make asan     the end-to-end tests with plugin and brokers under AddressSanitizer and LeakSanitizer
# make valgrind the plugin's stories under valgrind
# make miri     the pure crates under miri, where a nightly compiler has it
# make soak     two hours with ten thousand devices that come and go, compared with an oracle
# make bench    what a check and a verification cost
# make silence  how long others hear nothing while fifty devices sign in: a table and a picture
# make connects what a sign-in with a token costs the broker's thread: a table
# make memory   what ten thousand connected devices cost, and what is left of them: a table
# make instructions what the rights cost a message, counted by valgrind: a table
# make scale    what a large fleet costs the others on SIGHUP, when its tokens expire and after a restart
# make dashboard  docs/grafana-dashboard.json with numbers of real brokers, drawn in Chromium: a picture
# make docs     writes what is generated: options, refusals, manual pages, the package's auth0.conf
# make lint     formatting, clippy, links in the documentation, and cargo-deny where it is installed
#
# demo and test first install what is missing (apt, with sudo unless you are root).

CARGO  ?= cargo
LOCKED ?= --locked

.PHONY: demo test races fuzz faults asan valgrind miri plugin tool deb packages test-packages bench docs lint \
  static-checks clean

# The demo uses 2.0.21, so it continues if only another broker cannot be fetched.
demo:
	@tests/dependencies.sh demo
	@NEAREST=1 tests/brokers.sh || { test -x target/brokers/2.0.21/mosquitto && \
	  echo "demo: continuing with 2.0.21; --broker works only with brokers that were fetched"; }
	@echo "demo: building (the first time takes some minutes)"
	@$(CARGO) build $(LOCKED) --lib
	@$(CARGO) build $(LOCKED) -p testbed --bin demo
	@target/debug/demo

test: static-checks
	@tests/dependencies.sh test
	@NEAREST=1 tests/brokers.sh
	@NEAREST=1 tests/sanitized.sh
	@tests/servers/nanoidp/install.sh || echo "test: the cases against nanoidp are left out"
	$(CARGO) test $(LOCKED) --workspace --no-fail-fast
	fuzz/run.sh --runs 100000 --seconds 15
	tests/races.sh --if-possible
	packaging/test-deb.sh

races:
	@tests/dependencies.sh build
	tests/races.sh

fuzz:
	@tests/dependencies.sh build
	fuzz/run.sh

faults:
	@tests/dependencies.sh test
	@NEAREST=1 tests/brokers.sh
	tests/faults.sh

asan:
	@tests/dependencies.sh test
	@NEAREST=1 tests/brokers.sh
	tests/asan.sh

valgrind:
	@tests/dependencies.sh measure
	tests/valgrind.sh

miri:
	tests/miri.sh

plugin:
	@tests/dependencies.sh build
	$(CARGO) build $(LOCKED) --release

tool:
	@tests/dependencies.sh build
	$(CARGO) build $(LOCKED) --release -p cli -p mosquitto-ctrl-auth0

deb:
	@tests/dependencies.sh deb
	packaging/deb.sh

packages:
	@tests/dependencies.sh packages
	packaging/packages.sh

test-packages:
	@tests/dependencies.sh test-packages
	packaging/test-packages.sh

bench:
	@tests/dependencies.sh build
	$(CARGO) bench $(LOCKED) -p auth --bench checks

MEASURES = silence connects memory instructions scale soak dashboard
.PHONY: $(MEASURES)
instructions silence: NEEDS = measure
dashboard: NEEDS = dashboard
$(MEASURES): plugin
	@tests/dependencies.sh $(or $(NEEDS),demo)
	@NEAREST=1 tests/brokers.sh
	$(CARGO) build $(LOCKED) --release -p testbed --bin $@
	target/release/$@

docs:
	UPDATE=1 $(CARGO) test $(LOCKED) --test generated
	UPDATE=1 $(CARGO) test $(LOCKED) -p cli --bin mosquitto-auth0 generated

# A newer Rust may add warnings. They fail `make lint` and CI (WARNINGS='-D warnings'), but not `make test` on a user's
# machine.
WARNINGS ?= -W warnings
lint: WARNINGS = -D warnings
lint: static-checks

# The plugin and the tool have one name, and their pages one folder, so they are made one after the other.
DOC = RUSTDOCFLAGS="$(WARNINGS) -A rustdoc::private-intra-doc-links" \
  $(CARGO) doc $(LOCKED) --quiet --no-deps --document-private-items

static-checks:
	@tests/dependencies.sh build
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(LOCKED) --workspace --all-targets -- $(WARNINGS)
	$(DOC) --workspace --exclude cli
	$(DOC) --package cli
	@if command -v cargo-deny >/dev/null; then cargo-deny --locked check licenses bans sources; \
	else echo "lint: cargo-deny is not installed, so licences and sources of libraries are not checked"; fi

clean:
	$(CARGO) clean
