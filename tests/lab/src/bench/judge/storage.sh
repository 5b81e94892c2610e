# What can be observed of the storage VM, one fact a line: NAME, tab, VALUE. Arguments: the disk, the password, another one. Read by
# judge.rs, which knows what each has to be. All contestants are asked the same.
export LC_ALL=C
disk=$1 right=$2 wrong=$3
mount=/mnt/data share=/mnt/data/shared_folder
rule='rule family="ipv4" source address="192.168.2.0/24" port port="445" protocol="tcp" accept'

fact() {
	printf '%s\t%s\n' "$1" "$2"
}
yes_if() {
	name=$1
	shift
	if "$@" >/dev/null 2>&1; then fact "$name" yes; else fact "$name" no; fi
}
# The word of Samba's that a client hears, or "in".
client() {
	user=$1 password=$2 dialect=$3 commands=$4
	said=$(smbclient "//127.0.0.1/user1" --user="$user%$password" --max-protocol="$dialect" --command="$commands" 2>&1) && {
		echo in
		return
	}
	echo "$said" | grep -o 'NT_STATUS_[A-Z_]*' | head -n 1
}

fact 'file system' "$(findmnt --noheadings --output FSTYPE --mountpoint $mount)"
yes_if 'the disk is mounted' test "$(findmnt --noheadings --output SOURCE --mountpoint $mount)" = "$disk"
yes_if 'it is mounted for writing' sh -c "findmnt --noheadings --output OPTIONS --mountpoint $mount | grep -qw rw"
# By what a disk keeps when its name changes: in fstab, or in a unit that is enabled.
source=$(findmnt --fstab --noheadings --output SOURCE $mount 2>/dev/null) || source=
[ -n "$source" ] || [ "$(systemctl is-enabled mnt-data.mount 2>/dev/null)" != enabled ] ||
	source=$(sed -n 's/^What=//p' /etc/systemd/system/mnt-data.mount)
case $source in
UUID=* | LABEL=* | /dev/disk/by-uuid/* | /dev/disk/by-label/*) fact 'it is mounted at a boot' yes ;;
*) fact 'it is mounted at a boot' "no: ${source:-nothing says so}" ;;
esac

fact 'owner and mode of the directory' "$(stat -c '%U:%G %a' $share 2>/dev/null)"
fact 'shell of the account' "$(getent passwd user1 | cut -d: -f7)"
yes_if 'the account has no password of its own' sh -c "getent shadow user1 | cut -d: -f2 | grep -q '^[!*]'"

probe=.bench-probe
fact 'a client with the password' "$(client user1 "$right" SMB3_11 "put /etc/hostname $probe; rm $probe")"
fact 'what it wrote and deleted' "$(ls $share/$probe 2>/dev/null)"
fact 'a client with another password' "$(client user1 "$wrong" SMB3_11 ls)"
# SMB 2.1 knows no encryption; a later client encrypts where a share demands it.
fact 'a client that cannot encrypt' "$(client user1 "$right" SMB2_10 ls)"
fact 'a guest' "$(client nobody-known '' SMB3_11 ls)"

for when in '' --permanent; do
	yes_if "the firewall lets the WAS VMs in${when:+, also after a boot}" firewall-cmd $when --query-rich-rule="$rule"
	yes_if "the firewall lets others in${when:+, also after a boot}" sh -c \
		"firewall-cmd $when --query-service=samba || firewall-cmd $when --query-port=445/tcp"
done

fact 'Samba now' "$(systemctl is-active smbd)"
fact 'Samba at a boot' "$(systemctl is-enabled smbd)"

# The revision's files were listed before anybody began.
fact 'files of the revision that are not as they are in it' \
	"$(cd $share 2>/dev/null && sha256sum --check --quiet /root/bench/revision 2>/dev/null | wc -l)"
fact 'things in the directory that are not its account'\''s' "$(find $share ! '(' -user user1 -group user1 ')' 2>/dev/null | wc -l)"
fact 'things in the directory that anybody may use' "$(find $share -perm /007 2>/dev/null | wc -l)"
