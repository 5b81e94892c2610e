# Run in the workshop: the RPMs, from /build/$NAME.tar.gz and its crates.
cd /build
tar -xf "$NAME.tar.gz" --strip-components=3 "$NAME/packaging/rpm/wasagent.spec"
# The tree is for the debs as well.
set -- -bb --nodeps --quiet --noclean
if [ -n "$WASAGENT_PREBUILT" ]; then
	set -- "$@" --with prebuilt
fi
if [ -z "$CHECK" ]; then
	set -- "$@" --without check
fi
rpmbuild "$@" \
	--define '_topdir /build' --define '_sourcedir /build' --define '_builddir /build' \
	--define '_buildhost reproducible' --define 'use_source_date_epoch_as_buildtime 1' \
	--define 'clamp_mtime_to_source_date_epoch 1' --define '_binary_payload w19.zstdio' wasagent.spec
mkdir -p packages
mv RPMS/*/*.rpm packages/
