# Run in the workshop beside the packages: what lintian says of the debs, and a repository of them and one of an upgrade.
cd /build
mkdir -p found repository
lintian --fail-on error --show-overrides packages/*.deb >found/lintian 2>&1 || echo "lintian: $?" >>found/lintian
mkdir repository/debs-1 repository/debs-2
cp packages/*.deb repository/debs-1

cd "$NAME"
sed -i '1s/-1)/-2)/' debian/changelog
dpkg-buildpackage --build=binary --no-sign --no-check-builddeps >/dev/null 2>&1
mv ../*.deb ../repository/debs-2
for directory in debs-1 debs-2; do
	cd "/build/repository/$directory"
	apt-ftparchive packages . >Packages
	apt-ftparchive release . >Release
done
