#!/bin/sh
# Run by mmdebstrap after the rest, for the roots of `cargo lab bench`: what of the peers no package of Debian's brings. The second
# argument is the root's version of Python, the third what PyPI knows as pyinfra.
set -eu
root="$1"
python3 -m pip install --quiet --no-compile --only-binary=:all: --python-version "$2" --target "$root/opt/pyinfra" "$3"
# As an installation by pip leaves it: compiled.
chroot "$root" python3 -m compileall -q /opt/pyinfra
# pyinfra(1) as `pip install` would put it.
install -m 755 /dev/stdin "$root/usr/local/bin/pyinfra" <<'END'
#!/usr/bin/python3
import sys

sys.path.insert(0, "/opt/pyinfra")
from pyinfra_cli.main import main

sys.exit(main())
END
# As agents are set up that are run by hand: nothing of them runs by itself.
systemctl --root "$root" --quiet disable puppet.service 2>/dev/null || true
for unit in cloud-init-local cloud-init cloud-config cloud-final; do
	systemctl --root "$root" --quiet mask "$unit.service" 2>/dev/null || true
done
