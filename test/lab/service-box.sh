#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# service-box.sh FOLDER: a systemd as the first process of namespaces of its own - mounts, processes, network, control groups -
# that starts what box.target of FOLDER/units asks for and nothing else. Ends, with all in it, when it is killed.
set -euo pipefail
folder=$1
if [[ ${2-} != inside ]]; then
  unified=/sys/fs/cgroup
  [[ -e $unified/cgroup.procs ]] || unified=$unified/unified
  mkdir "$unified/${folder##*/}"
  echo $$ >"$unified/${folder##*/}/cgroup.procs"
  exec unshare --mount --pid --fork --cgroup --net --uts --ipc --mount-proc --kill-child=KILL -- "$0" "$folder" inside
fi

mount --make-rprivate /
mount -t tmpfs tmpfs /run -o mode=755
mount -t tmpfs tmpfs /var/lib -o mode=755
while umount -l /sys/fs/bpf 2>/dev/null; do :; done
while umount -l /sys/fs/cgroup 2>/dev/null; do :; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# As systemd mounts it.
mount -t bpf bpf /sys/fs/bpf -o mode=0700
cp -a /etc /run/etc
mount --bind /run/etc /etc
echo 'xlb:x:977:977::/var/lib/xlb:/usr/sbin/nologin' >>/etc/passwd
printf '%s\n' xlb:x:977: ops:x:978: >>/etc/group
mkdir /etc/xlb
install -o root -g xlb -m 640 "$folder/xlb.yaml" /etc/xlb/xlb.yaml
ip link set lo up
ip link add v0 type veth peer name v1
ip address add 10.77.0.1/24 dev v0
ip address add fd00:77::1/64 dev v0 nodad
ip link set v0 up
ip link set v1 up
ip neighbour add 10.77.0.21 lladdr 02:00:00:00:00:21 dev v0
ip neighbour add fd00:77::21 lladdr 02:00:00:00:00:21 dev v0
mount --bind "$folder/console" /dev/console
exec env -i container=xlb PATH="$PATH" SYSTEMD_UNIT_PATH="$folder/units" \
  /lib/systemd/systemd --system --unit=box.target --log-target=console --log-level=warning --show-status=no --crash-reboot=no
