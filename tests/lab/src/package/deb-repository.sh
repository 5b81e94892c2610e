# Run in the workshop beside the packages: a repository of the debs as a site has it, signed by a key of its own.
cd /build
mkdir site
cp packages/*.deb site
cd site
apt-ftparchive packages . >Packages
apt-ftparchive release . >Release
export GNUPGHOME=/tmp/gnupg
mkdir -m 700 "$GNUPGHOME"
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key 'packages of the lab' ed25519 sign never
gpg --batch --quiet --clearsign --output InRelease Release
gpg --batch --quiet --armor --export >../key.asc
# Who serves it is not root.
chmod -R a+rX .
