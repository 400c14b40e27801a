# Makes a copy of this system at /mnt/root and becomes a command. What is installed there, or removed, changes nothing here: it is written
# into memory, and all of it is gone with the command's last process. Run by root under `unshare --mount`: nobody else sees these mounts.
#
# systemd does not run there, but whatever asks `systemctl` for something is told that it does: the log of that is /run/systemctl.log.
set -eu

mount -t tmpfs -o size=2g,mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
for folder in dev proc tmp; do mount --rbind "/$folder" "/mnt/root/$folder"; done
mount -t tmpfs -o mode=755 tmpfs /mnt/root/run
mkdir -p /mnt/root/run/systemd/system

rm -f /mnt/root/usr/bin/systemctl /mnt/root/usr/sbin/policy-rc.d
printf '#!/bin/sh\necho "$*" >>/run/systemctl.log\n' >/mnt/root/usr/bin/systemctl
chmod 755 /mnt/root/usr/bin/systemctl

exec "$@"
