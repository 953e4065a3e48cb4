# Shortcuts; `./check` is what counts.

# List the recipes
default:
    @just --list

# Start all of Petrel on ./petrel-data
serve *ARGS:
    cargo run --release -- {{ARGS}}

# Everything that CI runs, or some of it: its head names the parts
check *NAMES:
    ./check {{NAMES}}

# Run a scenario of perf/scenarios against a Petrel that was started with `just serve`
load SCENARIO *ARGS:
    cargo run --release -p petrel-loadgen -- run perf/scenarios/{{SCENARIO}}.toml --http http://127.0.0.1:8080 --data petrel-data {{ARGS}}

# Talk by hand: `just chat 1 2` in one terminal, `just chat 2 1` in another
chat AS TO:
    cargo run --release -p petrel-loadgen -- chat --as {{AS}} --to {{TO}} --http http://127.0.0.1:8080 --data petrel-data

# Replay one seed of the simulated world and show what happened
sim SEED *ARGS:
    cargo run --release -p petrel-simulation -- --seed {{SEED}} {{ARGS}}

# Simulate this many seeds on all cores
sim-many COUNT *ARGS:
    cargo run --release -p petrel-simulation -- --seeds 0..{{COUNT}} {{ARGS}}

# Fuzz one target of fuzz/ for some seconds (needs nightly Rust and cargo-fuzz)
fuzz TARGET SECONDS="120":
    mkdir -p fuzz/corpus/{{TARGET}}
    cargo +nightly fuzz run {{TARGET}} fuzz/corpus/{{TARGET}} fuzz/seeds/{{TARGET}} -- -max_total_time={{SECONDS}}

# Judge a history that `petrel-loadgen run --history FILE` wrote
judge FILE:
    cargo run --release -p petrel-loadgen -- check {{FILE}}

# An hour of load, or fewer `--minutes M`, with memory, descriptors and threads as a plot
soak *ARGS:
    perf/soak.sh {{ARGS}}

# Tests of the services as processes of their own, against what `deploy/local/up` started: all, or those of a NAME
cluster *NAME:
    cargo test --workspace --all-features --no-run --test start --test redis --test service_on_cassandra --test cluster
    cargo test --workspace --all-features --test cluster -- --nocapture {{NAME}}
