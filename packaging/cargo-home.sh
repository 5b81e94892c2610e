# Read by the scripts beside it, in the top of the sources: cargo takes all crates from vendor/ and asks no network.
# Flags of the caller would replace those below and those of .cargo/config.toml: the program would not be static.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
here=$(pwd -P)
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_HOME="$here/cargo-home"
mkdir -p "$CARGO_HOME"
cat >"$CARGO_HOME/config.toml" <<END
[source.crates-io]
replace-with = "vendored"

[source.vendored]
directory = "$here/vendor"

[target.$host]
rustflags = ["--remap-path-prefix=$here=/usr/src/wasagent"]
END
