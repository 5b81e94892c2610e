# Temporary files of the agent's that lie about, as lines of a snapshot: leftover, PATH, there.
{
	find / -xdev \( -path /usr -o -path /var/lib/containers \) -prune -o \( -name '.wasagent*' -o -name '.*.wasagent' -o -name 'wasagent-smb-*' \) -print
	find /run /tmp /dev/shm /mnt -fstype cifs -prune -o \( -name '.wasagent*' -o -name '.*.wasagent' -o -name 'wasagent-smb-*' \) -print 2>/dev/null
} | sort -u | sed 's!.*!leftover\t&\tthere!'
