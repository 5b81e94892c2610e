# Run in the workshop beside the packages: the life of the RPMs in a root that has rpm's tools and nothing else. What a
# step finds goes to files in /build/found, for the test to judge.
cd /build
mkdir -p found repository/1 repository/2 stubs

# The same package once more, as an upgrade has it, from the tree of the first.
sed 's/^Release: .*/Release: 2/' wasagent.spec >wasagent-2.spec
quiet='-bb --nodeps --quiet'
rpmbuild $quiet --define '_topdir /build/stubs' /stubs.spec 2>found/stubs
rpmbuild $quiet --noclean --noprep --with prebuilt --without check --define '_topdir /build/second' \
	--define '_sourcedir /build' --define '_builddir /build' --define '_binary_payload w1.zstdio' wasagent-2.spec
cp packages/*.rpm stubs/RPMS/*/*.rpm repository/1
cp second/RPMS/*/*.rpm repository/2
createrepo_c --quiet repository/1
createrepo_c --quiet repository/2

rpmlint --rpmlintrc "$NAME/packaging/rpm/wasagent.rpmlintrc" packages/*.rpm >found/rpmlint 2>&1 || true
for name in wasagent wasagent-storage wasagent-was; do
	rpm -qpR packages/$name-[0-9]*.rpm | grep -v '^rpmlib(' | sort >found/requires-$name
done
rpm -qp --provides packages/wasagent-[0-9]*.rpm >found/provides

root='--assumeyes --installroot=/build/el --setopt=module_platform_id=platform:el9 --setopt=reposdir=/nowhere --nogpgcheck'
dnf() {
	command dnf --quiet $root "$@"
}
dnf --repofrompath=one,file:///build/repository/1 --repo=one install systemd wasagent-storage wasagent-was
mv el/scriptlets found/installed
rpm --root /build/el -V wasagent wasagent-storage wasagent-was >found/verified 2>&1 || true
rpm --root /build/el -ql wasagent >found/files
for name in share database; do
	(umask 077 && echo 'a password' >el/etc/wasagent/$name.password)
done
chroot el /usr/bin/wasagent check --config /usr/share/wasagent/tier.toml >found/example 2>&1 || echo refused >>found/example

# As after an apply, with what the agent and the operator have there.
install -D -m 600 /dev/null el/var/lib/wasagent/runs/000001.jsonl
echo '{"version":1,"role":"was","succeeded":true}' >el/var/lib/wasagent/record.json
cp el/usr/share/wasagent/tier.toml el/etc/wasagent/tier.toml
dnf --repofrompath=two,file:///build/repository/2 --repo=two upgrade
mv el/scriptlets found/upgraded 2>/dev/null || : >found/upgraded
rpm --root /build/el -q wasagent >found/version

# The agent alone goes, from a VM on which Samba has its configuration and accounts.
echo 'include = /etc/samba/wasagent.conf' >>el/etc/samba/smb.conf
echo '[user1]' >el/etc/samba/wasagent.conf
install -D -m 600 /dev/null el/var/lib/samba/private/passdb.tdb
command dnf $root remove wasagent >found/erased 2>&1
mv el/scriptlets found/removed
find el/etc/wasagent el/var/lib/wasagent el/usr -name '*wasagent*' -o -path '*/wasagent/*' | sort >found/left
rpm --root /build/el -qa --qf '%{name}\n' | sort >found/without-the-agent

# Then what a role needs goes, but for what an operator has marked.
dnf mark install podman
dnf remove wasagent-storage wasagent-was
rpm --root /build/el -qa --qf '%{name}\n' | sort >found/without-the-roles
find el/etc/samba el/var/lib/samba -type f | sort >found/of-samba
