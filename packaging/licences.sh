#!/bin/sh
# licences.sh: prints the licence of each crate that is linked into the agent, and all their texts, each once.
set -eu
cd "$(dirname "$0")/.."
. packaging/cargo-home.sh
crates=$(cargo tree --frozen --quiet --package wasagent --edges no-dev,no-build --target "$host" --prefix none \
	--format '{p}|{l}' | sed 's/ (.*|/|/' | LC_ALL=C sort -u | grep -v '^wasagent ')
echo "The agent is one static program. It contains these crates:"
echo
echo "$crates" | tr '|' '\t'
# Lines of: the text's checksum, the crate, the file.
texts=$(echo "$crates" | cut -d'|' -f1 | while read -r name version; do
	directory=vendor/$name-${version#v}
	found=$(find "$directory" -maxdepth 1 -type f \( -iname '*licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) \
		! -name '*.toml' ! -name '*.rs' | LC_ALL=C sort)
	if [ -z "$found" ]; then
		echo "licences.sh: $directory has no text of its licence" >&2
		exit 1
	fi
	for text in $found; do
		sum=$(sha256sum <"$text")
		echo "${sum%% *} $name-${version#v} $text"
	done
done)
echo "$texts" | cut -d' ' -f1 | LC_ALL=C sort -u | while read -r sum; do
	of_this=$(echo "$texts" | grep "^$sum ")
	printf '\n==== The text of %s:\n\n' "$(echo "$of_this" | cut -d' ' -f2 | LC_ALL=C sort -u | paste -s -d' ')"
	cat "$(echo "$of_this" | head -n 1 | cut -d' ' -f3)"
done
