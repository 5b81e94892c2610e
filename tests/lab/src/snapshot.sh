# The state of a guest, one thing a line: KIND, NAME, VALUE and, for a file, its time, between tabs. Read by snapshot.rs.
# All is asked for in one connection and with few programs: an emulated processor starts twenty in a second.
export LC_ALL=C

# The share as a client mounts it is the server's to describe. --zero, because names with a backslash, as units have, are
# escaped otherwise.
find /etc /mnt -fstype cifs -prune -o -printf 'path\t%p\t%y %m %u:%g %l\t%T@\n'
find /etc /mnt -fstype cifs -prune -o -type f ! -path /etc/shadow ! -name '.wasagent-*.json' -print0 | xargs -0 -r sha256sum --zero | tr '\0' '\n' |
	awk '{ print "bytes\t" substr($0, 67) "\t" $1 }'
# Without the day of the last change, which is another one after midnight.
shadow() {
	awk -F: -v OFS=: '{ $3 = ""; print }' /etc/shadow
}
sum=$(shadow | sha256sum)
printf 'bytes\t/etc/shadow\t%s\n' "${sum%% *}"
# Samba's and podman's own databases are asked for what they mean, below.
find /var/lib -xdev \( -path /var/lib/dpkg -o -path /var/lib/samba -o -path /var/lib/containers -o -path /var/lib/apt \) -prune \
	-o -printf 'path\t%p\t%y %m %u:%g %l\n'
# The times in the manifest of what was deployed are those of the deployment.
find /mnt -fstype cifs -prune -o -type f -name '.wasagent-*.json' -print | while read -r manifest; do
	sum=$(sed 's/"modified": *[0-9]*/"modified":0/g' "$manifest" | sha256sum)
	printf 'bytes\t%s\t%s\n' "$manifest" "${sum%% *}"
done
# What the agent wrote, in full, so that a difference can be read.
grep -rlsF '# Written by wasagent' /etc | while read -r file; do
	while IFS= read -r line; do printf 'text\t%s\t%s\n' "$file" "$line"; done <"$file"
done
for database in passwd group gshadow; do
	sed "s!^\([^:]*\):!$database\t\1\t!" /etc/$database
done
shadow | sed 's!^\([^:]*\):!shadow\t\1\t!'
# The last field is the time of the last change.
if [ -e /var/lib/samba/private/passdb.tdb ]; then
	pdbedit -Lw 2>/dev/null | sed 's/:LCT-.*//; s!^\([^:]*\):!samba-user\t\1\t!'
fi

# An application that starts has a unit beside it (wasagent start-lock) until it answers, 90 s at most.
for _ in $(seq 200); do
	ls /run/systemd/transient/run-*.service >/dev/null 2>&1 || break
	sleep 0.5
done
# The files in /etc say which units are enabled and masked; here are those that only /run has. systemctl list-unit-files says the
# same, and takes four seconds to read every unit's own file.
find /run/systemd/system /run/systemd/transient /run/systemd/generator* ! -type d -printf 'unit-file\t%f\t%h %y %l\n' 2>/dev/null | sort
systemctl list-units --all --no-legend --no-pager --plain --type=service,socket,mount,automount \
	--state=active,reloading,activating,deactivating,failed | awk '{ print "unit\t" $1 "\t" $3 " " $4 }'
findmnt --raw --noheadings --output TARGET,SOURCE,FSTYPE,OPTIONS | awk '{ print "mount\t" $1 "\t" $2 " " $3 " " $4 }'

# busctl(1) and not firewall-cmd(1), which takes a second to start where the processor is emulated.
firewalld() {
	busctl --json=short --auto-start=no call org.fedoraproject.FirewallD1 "$@" 2>/dev/null
}
root=/org/fedoraproject/FirewallD1 name=org.fedoraproject.FirewallD1
printf 'firewall\tactive zones\t%s\n' "$(firewalld $root $name.zone getActiveZones)"
for zone in public trusted; do
	printf 'firewall\truntime of %s\t%s\n' $zone "$(firewalld $root $name.zone getZoneSettings2 s $zone)"
	object=$(firewalld $root/config $name.config getZoneByName s $zone | cut -d'"' -f8)
	printf 'firewall\tpermanent settings of %s\t%s\n' $zone "$(firewalld "$object" $name.config.zone getSettings2)"
done

# podman takes seconds there to say what its store's own lists hold (containers/storage, containers.go and images.go).
if [ "$1" = was ]; then
	cat /var/lib/containers/storage/overlay-containers/*containers.json 2>/dev/null | grep -o '"names":\["[^"]*"' | cut -d'"' -f4 |
		sed 's!.*!container\t&\tthere!'
	grep -o '"names":\["[^]]*' /var/lib/containers/storage/overlay-images/images.json 2>/dev/null | tr ',' '\n' |
		sed 's!.*"\([^"]*\)"$!image\t\1\tthere!'
fi
