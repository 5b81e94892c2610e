#!/bin/sh
# Written by wasagent userdata: what wasagent-first-boot.service does around the first apply of the role @ROLE@.
# Whatever is in place already is left as it is.
set -eu
umask 077

fail() {
    echo "wasagent first boot: $1" >&2
    exit 1
}

# Whether all of these programs are there.
have() {
    for program; do
        command -v "$program" >/dev/null || return 1
    done
}

# Installs packages from the VM's repositories: EL's names first, then Debian's.
install_packages() {
    if have dnf; then
        dnf -y install $1 || fail "dnf could not install $1, as is said above: does this VM reach its repositories?"
    elif have apt-get; then
        # An installation that a power cut ended has to be completed first.
        DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confold &&
            apt-get -q -o DPkg::Lock::Timeout=300 update &&
            DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install $2 ||
            fail "apt-get could not install $2, as is said above: does this VM reach its repositories?"
    else
        fail "neither dnf nor apt-get is here to install packages with"
    fi
}

# Downloads a URL to a file.
download() {
    if have curl; then
        curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"
    elif have wget; then
        wget -q -O "$2" "$1"
    else
        # cloud-init is a Python program: its interpreter is here.
        python=$(sed -n '1s/^#! *//p' "$(command -v cloud-init)")
        ${python:-python3} -c 'import sys, urllib.request as u; u.urlretrieve(sys.argv[1], sys.argv[2])' "$1" "$2"
    fi
}

# Whether a file has this SHA-256.
is_sha256() {
    echo "$1  $2" | sha256sum --check --status 2>/dev/null
}

# Makes dnf or apt know a repository, whose key is in a file.
add_repository() {
    chmod 0644 /etc/wasagent/repository.asc
    if have dnf; then
        printf '[wasagent]\nname=wasagent\nbaseurl=%s\ngpgcheck=1\ngpgkey=file:///etc/wasagent/repository.asc\n' "$1" \
            >/etc/yum.repos.d/wasagent.repo
        chmod 0644 /etc/yum.repos.d/wasagent.repo
    elif have apt-get; then
        printf 'deb [signed-by=/etc/wasagent/repository.asc] %s ./\n' "$1" >/etc/apt/sources.list.d/wasagent.list
        chmod 0644 /etc/apt/sources.list.d/wasagent.list
    fi
}

# Downloads the agent, and installs it if it is the one that is meant.
install_binary() {
    ! is_sha256 "$2" /usr/bin/wasagent || return 0
    new=/usr/bin/.wasagent.new
    download "$1" "$new" || fail "$1 cannot be downloaded"
    is_sha256 "$2" "$new" || fail "what $1 gives has another checksum than $2; nothing was installed"
    chmod 0755 "$new"
    sync "$new"
    mv "$new" /usr/bin/wasagent
}

# Puts the unit that applies the role at later boots where the package would have it. The agent has its text.
install_unit() {
    unit=/usr/lib/systemd/system/wasagent-apply.service
    /usr/bin/wasagent boot-unit >"$unit.new" && chmod 0644 "$unit.new" && sync "$unit.new" && mv "$unit.new" "$unit" &&
        systemctl daemon-reload
}

# Where a secret may come from: disks by their labels, such as an ISO that is attached to the VM.
mount_drives() {
    for label in wasagent WASAGENT config-2 CONFIG-2 cidata CIDATA; do
        device=$(blkid -L "$label" 2>/dev/null) || continue
        mkdir -p "/run/wasagent-drives/$label"
        mount -o ro,nosuid,nodev,noexec "$device" "/run/wasagent-drives/$label" || continue
    done
}

unmount_drives() {
    for drive in /run/wasagent-drives/*; do
        umount "$drive" 2>/dev/null || true
        rmdir "$drive" 2>/dev/null || true
    done
}

# Copies a secret to its file, whole or not at all.
keep() {
    install -m 0600 "$1" "$2.new" && sync "$2.new" && mv "$2.new" "$2"
}

# Brings the secret with a name to its file, which only root may read.
bring_secret() {
    [ ! -s "$2" ] || return 0
    mkdir -p "$(dirname "$2")"
    for store in /run/credentials/@system /run/credstore /etc/credstore; do
        if [ -f "$store/wasagent.$1" ]; then
            keep "$store/wasagent.$1" "$2"
            return
        fi
    done
    for store in /run/credentials/@encrypted /run/credstore.encrypted /etc/credstore.encrypted; do
        if [ -f "$store/wasagent.$1" ]; then
            systemd-creds decrypt --name="wasagent.$1" "$store/wasagent.$1" "$2.new" || continue
            chmod 0600 "$2.new"
            sync "$2.new"
            mv "$2.new" "$2"
            return
        fi
    done
    for drive in /run/wasagent-drives/*; do
        if [ -f "$drive/wasagent/$1" ]; then
            keep "$drive/wasagent/$1" "$2"
            return
        fi
    done
    echo "wasagent first boot: no secret for $2: expected that file, a credential wasagent.$1 (systemd.exec(5)," \
        "/etc/credstore, /etc/credstore.encrypted), or wasagent/$1 on a disk labelled wasagent, config-2 or cidata" >&2
    missing=yes
}

# Before the role is applied.
prepare() {
@INSTALL@
    missing=
    mount_drives
@BRING@
    unmount_drives
    [ -z "$missing" ] || exit 1
}

# After the role has been applied.
finish() {
    if systemctl cat wasagent-apply.service >/dev/null 2>&1 || install_unit; then
        systemctl enable wasagent-apply.service
    fi
    # What was written is on the disk before the unit goes that would write it again.
    sync
    systemctl disable --quiet wasagent-first-boot.service
    rm -f /etc/systemd/system/wasagent-first-boot.service /etc/wasagent/first-boot
    echo "wasagent first boot: this VM is the tier's @ROLE@"
}

"$1"
