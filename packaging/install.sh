#!/bin/sh
# install.sh PROGRAM ROOT: puts every file of the agent's package below ROOT; systemd's own go to $systemd,
# zsh's completions to $zsh below its directory.
set -eu
program=$(realpath "$1")
root=$(realpath "$2")
systemd=$root${systemd:-/usr/lib/systemd}
cd "$(dirname "$0")/.."
install -D -m 755 "$program" "$root/usr/bin/wasagent"
install -D -m 644 -t "$systemd/system" systemd/*.service
install -D -m 644 -t "$systemd/system-preset" systemd/50-wasagent.preset
install -D -m 644 -t "$root/usr/share/wasagent" packaging/tier.toml
install -d -m 755 "$root/etc/wasagent"
install -d -m 700 "$root/var/lib/wasagent"

# Man pages, completions and the schema, by the program itself.
share=$root/usr/share
zsh=$share/zsh/${zsh:-site-functions}
install -d -m 755 "$share/man" "$share/bash-completion/completions" "$zsh" "$share/fish/vendor_completions.d"
"$program" man --directory "$share/man"
"$program" completions bash >"$share/bash-completion/completions/wasagent"
"$program" completions zsh >"$zsh/_wasagent"
"$program" completions fish >"$share/fish/vendor_completions.d/wasagent.fish"
"$program" schema >"$share/wasagent/tier.schema.json"
