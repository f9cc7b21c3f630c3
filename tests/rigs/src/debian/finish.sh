# Makes a Debian tree a system that boots from a disk, and the disk's image.
# Run by mmdebstrap with the tree and a directory for what comes out of it.
set -eu
root=$1 out=$2

printf '[Match]\nType=ether\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/lan.network"
chroot "$root" systemctl -q enable systemd-networkd
chroot "$root" passwd -q -d root
echo '/dev/xvda / ext4 defaults 0 1' >"$root/etc/fstab"
echo guest >"$root/etc/hostname"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin

cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd"
release=$(basename "$root"/boot/vmlinuz-* | sed s/vmlinuz-//)
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<EOF
set timeout=0
linux /boot/vmlinuz-$release root=/dev/xvda console=hvc0
initrd /boot/initrd.img-$release
boot
EOF

# The image takes the tree without what is mounted below it.
plain=$(mktemp -d)
mount --bind "$root" "$plain"
truncate -s 2G "$out/root.ext4"
mke2fs -q -t ext4 -L root -d "$plain" "$out/root.ext4"
umount "$plain"
rmdir "$plain"
