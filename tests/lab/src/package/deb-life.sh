# Run in the workshop beside the packages: what lintian says of the debs, and a repository of them and one of an upgrade.
cd /build
mkdir -p found repository
lintian --fail-on error --show-overrides packages/*.deb >found/lintian 2>&1 || echo "lintian: $?" >>found/lintian
mkdir repository/debs-1 repository/debs-2
cp packages/*.deb repository/debs-1

# What mandoc has to say of the pages, and what each shell completes, from the files of the package.
dpkg-deb --extract packages/wasagent_*.deb installed
share=/build/installed/usr/share
for page in "$share"/man/man*/*.gz; do
	gunzip --stdout "$page" | mandoc -Tlint -Wwarning >found/page || true
	sed "s|^mandoc: <stdin>|${page##*/}|" found/page
done >found/pages
bash -c 'source "$1/bash-completion/completions/wasagent"
	COMP_WORDS=(wasagent apply --r) COMP_CWORD=2
	_wasagent wasagent --r apply
	printf "%s\n" "${COMPREPLY[@]}"' bash "$share" >found/completed-bash
fish --no-config --command "source $share/fish/vendor_completions.d/wasagent.fish; complete -C 'wasagent apply --r'" |
	cut -f 1 >found/completed-fish
fish --no-config --command "source $share/fish/vendor_completions.d/wasagent.fish; complete -C 'wasagent completions '" |
	cut -f 1 >found/completed-fish-values
# A terminal, as somebody types there.
timeout 60 zsh -fc 'zmodload zsh/zpty
	zpty typed zsh -f
	zpty -w typed "fpath=($1/zsh/vendor-completions \$fpath); autoload -U compinit; compinit -u -D; LISTMAX=99; PS1=; print READY"
	zpty -r typed answer "*READY*READY*"
	zpty -n -w typed "wasagent apply --r"$'"'\\t\\t'"'
	zpty -r typed answer "*--role *--rollback-on-failure*"
	print -r -- "$answer"' zsh "$share" >found/completed-zsh || true

cd "$NAME"
sed -i '1s/-1)/-2)/' debian/changelog
dpkg-buildpackage --build=binary --no-sign --no-check-builddeps >/dev/null 2>&1
mv ../*.deb ../repository/debs-2
for directory in debs-1 debs-2; do
	cd "/build/repository/$directory"
	apt-ftparchive packages . >Packages
	apt-ftparchive release . >Release
done
