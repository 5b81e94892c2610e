# Run in the workshop after the RPMs, in the tree that they were built in: the program is there already.
cd "/build/$NAME"
cp -r packaging/deb debian
dpkg-buildpackage --build=binary --no-sign --no-check-builddeps
mv ../*.deb ../packages/
