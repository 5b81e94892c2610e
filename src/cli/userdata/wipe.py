# Written by wasagent userdata: wipes the tier's secrets from cloud-init's copies of the user data.
import email
import email.encoders
import glob
import gzip
import os
import re
import sys
import tempfile
import zlib

from cloudinit import sources

SECRETS = re.compile(rb"# wasagent secrets begin\r?\n.*?# wasagent secrets end", re.DOTALL)


def wiped(data):
    if isinstance(data, str):
        return wiped(data.encode(errors="surrogatepass")).decode(errors="surrogatepass")
    if data.startswith(b"\x1f\x8b"):
        try:
            plain = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            # cloud-init could not read it, either. The other files are still to be wiped.
            return data
        return data if wiped(plain) == plain else wiped(plain)
    return wiped_parts(SECRETS.sub(b"# wasagent secrets wiped", data))


# Whoever joins parts may encode them.
def wiped_parts(data):
    message, found = email.message_from_bytes(data), False
    for part in message.walk():
        text = None if part.is_multipart() else part.get_payload(decode=True)
        if text and message.is_multipart() and wiped(text) != text:
            del part["Content-Transfer-Encoding"]
            part.set_payload(wiped(text))
            email.encoders.encode_base64(part)
            found = True
    return message.as_bytes() if found else data


base = sys.argv[1] if len(sys.argv) > 1 else "/var/lib/cloud"
for instance in glob.glob(base + "/instances/*"):
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
