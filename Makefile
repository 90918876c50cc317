# `make demo` shows it, `make test` proves it; both install what they need first.

CARGO ?= cargo
BUF_VERSION = 1.75.0
BUF = .waybill/tools/node_modules/.bin/buf

.PHONY: setup demo dev test console count fuzz torture failover mutants race lint deny bench bench-peers overload upgrade release fmt clean

setup: ## what the sandbox needs: PostgreSQL and Redis, installed only where they are missing
	@scripts/setup.sh

demo: setup ## a city on a private Waybill, then the audit
	$(CARGO) run --release --quiet --package waybill -- demo --for 30s

dev: setup ## a private Waybill to try things on, until Ctrl-C
	$(CARGO) run --release --quiet --package waybill -- dev

test: setup ## everything; one crate: cargo test -p waybill-domain
	# They wait for one another's servers for half of their time.
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-3} $(CARGO) test --workspace --quiet
	@scripts/console.sh target/debug/waybill-under-test

console: ## the pages anew, after a change in console/: see console/README.md
	cd console && npm ci --silent && npm run build

count: ## instructions of the hottest pure paths, compared with the committed counts; to renew: scripts/count.sh --renew
	@scripts/count.sh

fuzz: ## hostile input for what parses bytes of strangers: a quarter of an hour; FUZZ_CASES, FUZZ_SEED to repeat a run
	FUZZ_CASES=$${FUZZ_CASES:-500000} $(CARGO) test --quiet --package waybill-server --lib fuzz

torture: setup ## ten minutes of kill -9, pauses and cut connections; TORTURE_MINUTES, TORTURE_SEED to repeat a run
	TORTURE_MINUTES=$${TORTURE_MINUTES:-10} $(CARGO) test --quiet --package waybill-tests --test torture

failover: setup ## Patroni, Sentinel and Redis Cluster fail over 60 times each, then 1, 2 and 3 servers take orders on such a pair; root, an hour; FAILOVER_ROUNDS, FAILOVER_ONLY=cluster,throughput, FAILOVER_SERVERS
	FAILOVER_ROUNDS=$${FAILOVER_ROUNDS:-20} $(CARGO) test --release --quiet --package waybill-tests --test failover

mutants: setup ## forty-seven ways to break the program, each of which a test must find: an hour or more
	@scripts/mutants.sh

race: setup ## twenty thousand assignments and releases of drivers by sixteen workers at once
	RACE_ASSIGNMENTS=20000 $(CARGO) test --quiet --package waybill-tests --test e2e -- --nocapture driver_races

lint: ## formatting, clippy, documentation, the words and imports, spelling where pip is there, the contract where Node is
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --quiet
	$(CARGO) test --quiet --workspace --test tidy
	@scripts/lint-spelling.sh
	@scripts/lint-contract.sh $(BUF) $(BUF_VERSION)

deny: ## licences, bans and sources of the dependencies; known vulnerabilities where the database can be reached
	@scripts/deny.sh

bench: setup ## benchmarks, each compared with its baseline: twenty-five minutes; BENCH_QUICK=1, BENCH_ONLY=orders,fixes
	$(CARGO) bench --quiet --package waybill-tests --bench benchmarks

overload: setup ## more than the machine can do, stores in trouble, restarts: what is served meanwhile; a quarter of an hour, OVERLOAD_ONLY=ladder,outages,storm,rolling
	BENCH_ONLY=overload $(CARGO) bench --quiet --package waybill-tests --bench benchmarks

upgrade: setup ## the program of schema 24, built first, or UPGRADE_FROM=path/to/older/waybill, and this one side by side on five million orders; 22 GB, some ten minutes
	@scripts/upgrade.sh

bench-peers: setup ## Waybill beside other servers, by one generator: PEERS=other.json (docs/performance.md says what is in it)
	BENCH_ONLY=peers $(CARGO) bench --quiet --package waybill-tests --bench benchmarks

release: ## the program to hand out, below 25 MB, and its symbols in a side file: target/release/dist
	@scripts/release.sh

fmt:
	$(CARGO) fmt --all

clean: ## build products, private servers and tools
	$(CARGO) clean
	rm -rf .waybill
