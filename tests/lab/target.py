# SPDX-License-Identifier: Apache-2.0
"""An iSCSI target on the lab's host, by the kernel's own LIO, with a disk that is a boot sector."""

from tests.lab.payload import Content, Entry

ADDRESS = "192.168.10.1"
IQN = "iqn.2016-01.com.example:cirros"
MARK = "lab: the guest has booted"

# cld; xor ax,ax; mov ds,ax; mov si,0x7c22; next: lodsb; test al,al; jz halt; mov ah,al; mov dx,0x3fd;
# wait: in al,dx; test al,0x20; jz wait; mov al,ah; mov dx,0x3f8; out dx,al; jmp next; halt: hlt; jmp halt
_CODE = bytes.fromhex("fc31c08ed8be227cac84c0741288c4bafd03eca82074fb88e0baf803eeebe9f4ebfd")


def boot_sector() -> bytes:
    """Says the mark on the serial port, and sleeps."""
    text = _CODE + f"{MARK}\r\n\0".encode()
    return text.ljust(510, b"\0") + b"\x55\xaa"


_SCRIPT = f"""
set -e
pf=/sys/bus/pci/devices/$1
name=$(ls $pf/net $pf/virtio*/net 2>/dev/null | grep -v : | head -1)
ip address replace {ADDRESS}/24 dev $name
ip link set $name up
modprobe -a target_core_mod target_core_file iscsi_target_mod
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
target=/sys/kernel/config/target
mkdir -p $target/core/fileio_0/disk
# iPXE's idea of a disk's geometry wants some cylinders.
truncate --size=64M /srv/disk
echo fd_dev_name=/srv/disk,fd_dev_size=67108864 >$target/core/fileio_0/disk/control
echo 1 >$target/core/fileio_0/disk/enable
mkdir -p $target/iscsi
group=$target/iscsi/{IQN}/tpgt_1
mkdir -p $target/iscsi/{IQN}
mkdir -p $group
mkdir -p $group/lun/lun_0 $group/np/{ADDRESS}:3260
ln -s $target/core/fileio_0/disk $group/lun/lun_0/disk
echo 1 >$group/attrib/generate_node_acls
echo 1 >$group/attrib/cache_dynamic_acls
echo 0 >$group/attrib/demo_mode_write_protect
echo 0 >$group/attrib/authentication
echo 1 >$group/enable
"""


def target_tree(pf: str) -> dict[str, Content]:
    """The target, reached through the PF's own netdev."""
    unit = f"[Unit]\nAfter=vfagent.service\n[Service]\nType=oneshot\nExecStart=/bin/sh /usr/lib/lab-target {pf}\n"
    place = "/usr/lib/systemd/system/lab-target.service"
    return {
        "/srv/disk": Entry(boot_sector()),
        "/usr/lib/lab-target": Entry(_SCRIPT.encode()),
        place: Entry((unit + "RemainAfterExit=yes\n").encode()),
        "/etc/systemd/system/multi-user.target.wants/lab-target.service": Entry(target=place),
    }
