#!/bin/sh
# Process 1 of the virtual machine: the host's files under an overlay in memory, then what was asked for.
#
#     guest.sh MODULES SCRIPT
#
# MODULES belongs at /lib/modules; SCRIPT is run by sh, and what it leaves in /run/results goes, as a tar file, to
# the host through the virtio port.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
modules=$1 script=$2
echo "guest: process 1"

prepare() {
    mount -t proc proc /proc &&
        modprobe -d "${modules%/lib/modules}" overlay &&
        mount -t tmpfs tmpfs /mnt &&
        mkdir /mnt/upper /mnt/work /mnt/root &&
        mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root &&
        cd /mnt/root &&
        mkdir -p lib/modules &&
        mount --bind "$modules" lib/modules &&
        mount -t proc proc proc &&
        mount -t sysfs sysfs sys &&
        mount -t cgroup2 cgroup2 sys/fs/cgroup &&
        mount -t devtmpfs devtmpfs dev &&
        mkdir -p dev/pts dev/shm &&
        mount -t devpts devpts dev/pts &&
        mount -t tmpfs tmpfs dev/shm &&
        mount -t tmpfs tmpfs run &&
        mkdir run/results &&
        # not chroot: in one, nobody may make user namespaces
        pivot_root . mnt &&
        ip link set lo up
}

if prepare; then
    modprobe -a tun veth virtio_console >/dev/null 2>&1 # udev would load what has a device
    sh "$script" </dev/null
    tar -cf "$(echo /dev/vport*)" -C /run/results .
fi
sync
echo o >/proc/sysrq-trigger
sleep 30
