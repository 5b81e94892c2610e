# What can be observed of a WAS VM, one fact a line: NAME, tab, VALUE. Arguments: the published port, another one, the password.
# Read by judge.rs, which knows what each has to be. All contestants are asked the same.
export LC_ALL=C
port=$1 another=$2 password=$3
share=/mnt/data/shared_folder

fact() {
	printf '%s\t%s\n' "$1" "$2"
}
options() {
	findmnt --noheadings --output OPTIONS --mountpoint $share | tr ',' '\n'
}

fact 'the share is mounted' "$(findmnt --noheadings --types cifs --output SOURCE --mountpoint $share)"
fact 'it is encrypted' "$(options | grep -x seal)"
fact 'its dialect' "$(options | grep '^vers=')"
if findmnt --fstab $share >/dev/null 2>&1 || [ "$(systemctl is-enabled mnt-data-shared_folder.mount 2>/dev/null)" = enabled ]; then
	fact 'it is mounted at a boot' yes
else
	fact 'it is mounted at a boot' no
fi
fact 'files with the password that others may read' \
	"$(grep -rlF -- "$password" /etc /root /run/systemd 2>/dev/null | xargs -r stat -c '%a %n' | grep -vc '^[46]00 ')"

# From the VM's own address, as the balancer asks.
page=$(curl --silent --max-time 10 "http://192.168.2.11:$port/")
fact 'the page' "$(echo "$page" | grep -o 'was-container-1' | head -n 1)"
fact 'the page at another port' "$(curl --silent --max-time 10 "http://192.168.2.11:$another/" | grep -o 'was-container-1' | head -n 1)"
fact 'the container is privileged' "$(podman inspect --format '{{.HostConfig.Privileged}}' nodejs-server 2>/dev/null)"
# There is no program in the image but node.
read="process.stdout.write(require('fs').readFileSync('/usr/src/app/package.json'))"
fact 'what the container sees' "$(podman exec nodejs-server node -e "$read" 2>/dev/null | cmp - $share/package.json 2>&1)"
fact 'its variable' "$(podman inspect --format '{{range .Config.Env}}{{println .}}{{end}}' nodejs-server 2>/dev/null | grep '^NODE_ENV=')"
fact 'the container now' "$(systemctl is-active nodejs-server)"
case $(systemctl is-enabled nodejs-server 2>/dev/null) in
enabled | generated) fact 'the container at a boot' yes ;;
*) fact 'the container at a boot' no ;;
esac
