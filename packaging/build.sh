#!/bin/sh
# build.sh [check]: builds the agent into target/wasagent, or runs its unit tests, from the sources in vendor/ and without
# a network. The spec and Debian's rules both run it. The same sources give the same bytes, wherever they lie.
set -eu
cd "$(dirname "$0")/.."
. packaging/cargo-home.sh
if [ "${1:-}" = check ]; then
	exec cargo test --frozen --package wasagent --lib
fi
# It puts the list of all crates into the program, for scanners; a build without it is as good otherwise.
auditable=
if command -v cargo-auditable >/dev/null; then
	auditable=auditable
else
	echo "build.sh: there is no cargo-auditable, so the program has no list of its crates" >&2
fi
cargo $auditable build --frozen --release --package wasagent
install -D "target/$host/release/wasagent" target/wasagent
