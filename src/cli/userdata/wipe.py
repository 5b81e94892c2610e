# Written by wasagent userdata: wipes the tier's secrets from cloud-init's copies of the user data.
import glob
import os
import re
import tempfile

from cloudinit import sources

SECRETS = re.compile(rb"# wasagent secrets begin\n.*?# wasagent secrets end", re.DOTALL)


def wiped(data):
    if isinstance(data, str):
        return wiped(data.encode()).decode()
    return SECRETS.sub(b"# wasagent secrets wiped", data)


for instance in glob.glob("/var/lib/cloud/instances/*"):
    patterns = ("user-data.txt*", "scripts/*", "scripts/vendor/*")
    for name in (name for pattern in patterns for name in glob.glob(os.path.join(instance, pattern))):
        if not os.path.isfile(name):
            continue
        with open(name, "rb") as file:
            data = file.read()
        if wiped(data) != data:
            mode = os.stat(name).st_mode
            with tempfile.NamedTemporaryFile(dir=os.path.dirname(name), delete=False) as new:
                new.write(wiped(data))
                os.fchmod(new.fileno(), mode & 0o7777)
            os.replace(new.name, name)
    kept = instance + "/obj.pkl"
    source = sources.pkl_load(kept) if os.path.exists(kept) else None
    raw = getattr(source, "userdata_raw", None)
    if isinstance(raw, (bytes, str)) and wiped(raw) != raw:
        source.userdata = None
        source.userdata_raw = wiped(raw)
        sources.pkl_store(source, kept)
