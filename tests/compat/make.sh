#!/bin/bash
# Writes the golden files of this release: tests/compat/v<major.minor>/. Once for each release, and kept for ever:
# `mod.rs` reads all of them with the code as it is. The two configs in the folder are written by hand before.
set -euo pipefail
cd "$(dirname "$0")/../.."
DTS_MAKE_GOLDENS=1 cargo test --features full --test all -- --nocapture compat::make
