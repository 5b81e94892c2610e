# Temporary files of the agent's that lie about, as lines of a snapshot: leftover, PATH, there. The lock in the share and the
# record of the deployed files beside it stay; the record of a change that was begun does not.
{
	find / -xdev \( -path /usr -o -path /var/lib/containers \) -prune -o \( -name '.wasagent*' -o -name '.*.wasagent' -o -name 'wasagent-smb-*' \) -print
	find /run /tmp /dev/shm /mnt -fstype cifs -prune -o \( -name '.wasagent*' -o -name '.*.wasagent' -o -name 'wasagent-smb-*' \) -print 2>/dev/null
} | sort -u | grep -v -e '/\.wasagent\.lock$' -e '/\.wasagent-[^/.]*\.json$' | sed 's!.*!leftover\t&\tthere!'
