#!/bin/sh
# Boots systemd over a copy of this machine's files that is written to memory only, in namespaces of its own.
#   boot.sh FOLDER GROUP: an empty folder for mounts, and the name of a control group to make.
set -eu
folder=$1 group=$2

if [ "$$" != 1 ]; then
    # In a mount namespace already. A group of its own keeps the new systemd from this machine's.
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$folder"
    mkdir "$folder/upper" "$folder/work" "$folder/root" "$folder/groups"
    mount -t cgroup2 cgroup2 "$folder/groups"
    mkdir "$folder/groups/$group"
    echo $$ >"$folder/groups/$group/cgroup.procs"
    exec unshare --fork --kill-child --pid --mount --uts --ipc --cgroup -- "$0" "$folder" "$group"
fi

root=$folder/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"
for fresh in run tmp var/tmp var/log; do
    mount -t tmpfs -o mode=755 tmpfs "$root/$fresh"
done
chmod 1777 "$root/tmp" "$root/var/tmp"
mount -t proc proc "$root/proc"
# Its units must not change the kernel's settings or look for devices.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
for unit in modprobe@.service systemd-modules-load.service systemd-remount-fs.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=bise-test PATH="$PATH" /lib/systemd/systemd --system --unit=basic.target --show-status=0
