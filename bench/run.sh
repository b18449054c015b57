#!/usr/bin/env bash
# bench/run.sh: what can be measured now; the results go into bench/results/DATE.md by hand, with the machine.
set -uo pipefail
cd "$(dirname "$0")/.."
bench/size.sh gnu || true
cargo build --release --locked
cargo build --locked --profile edge --no-default-features --features edge
target="${CARGO_TARGET_DIR:-target}"
python3 bench/agent_rss.py --agent "$target/edge/dts" --centre "$target/release/dts"
