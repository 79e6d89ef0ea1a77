# SPDX-License-Identifier: Apache-2.0
"""iSCSI targets on the lab's host (LIO), with disks whose boot sector prints a mark."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.lab.payload import Content, Entry

ADDRESS = "192.168.10.1"
IQN = "iqn.2016-01.com.example:cirros"
EFI_IQN = "iqn.2016-01.com.example:efi"
MARK = "lab: the guest has booted"
HOSTILE = "<0>lab: \x1b[31mall terminals"  # sd-daemon(3): an emergency, where systemd believes the prefix
EFI_MARK = "lab: the guest has booted under UEFI"

# cld; xor ax,ax; mov ds,ax; mov si,0x7c22; next: lodsb; test al,al; jz halt; mov ah,al; mov dx,0x3fd;
# wait: in al,dx; test al,0x20; jz wait; mov al,ah; mov dx,0x3f8; out dx,al; jmp next; halt: hlt; jmp halt
_CODE = bytes.fromhex("fc31c08ed8be227cac84c0741288c4bafd03eca82074fb88e0baf803eeebe9f4ebfd")


def boot_sector() -> bytes:
    """Prints the mark on the serial port and halts."""
    text = _CODE + f"{HOSTILE}\r\n{MARK}\r\n\0".encode()
    return text.ljust(510, b"\0") + b"\x55\xaa"


_LINK = """
set -e
pf=/sys/bus/pci/devices/$1
link=$(ls $pf/net $pf/virtio*/net 2>/dev/null | grep -v : | head -1)
ip link set $link up
if [ "$2" != 0 ]; then
    ip link add link $link name vlan$2 type vlan id $2
    link=vlan$2
    ip link set $link up
fi
"""
_TARGET = f"""
ip address replace {ADDRESS}/24 dev $link
modprobe -a target_core_mod target_core_file iscsi_target_mod
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
target=/sys/kernel/config/target
mkdir -p $target/iscsi

# serve DISK IQN [USER SECRET]
serve() {{
    # iPXE needs some cylinders for its disk geometry.
    truncate --size=64M /srv/$1
    mkdir -p $target/core/fileio_0/$1
    echo fd_dev_name=/srv/$1,fd_dev_size=67108864 >$target/core/fileio_0/$1/control
    echo 1 >$target/core/fileio_0/$1/enable
    group=$target/iscsi/$2/tpgt_1
    mkdir -p $target/iscsi/$2
    mkdir -p $group
    mkdir -p $group/lun/lun_0 $group/np/{ADDRESS}:3260
    ln -s $target/core/fileio_0/$1 $group/lun/lun_0/$1
    echo 1 >$group/attrib/generate_node_acls
    echo 1 >$group/attrib/cache_dynamic_acls
    echo 0 >$group/attrib/demo_mode_write_protect
    echo 0 >$group/attrib/authentication
    if [ -n "$3" ]; then
        echo 1 >$group/attrib/authentication
        printf %s "$3" >$group/auth/userid
        printf %s "$4" >$group/auth/password
    fi
    echo 1 >$group/enable
}}
"""
# The disk boots iPXE as an EFI program, whose script prints the mark.
_EFI = f"""
truncate --size=64M /srv/efi
mkfs.vfat /srv/efi >/dev/null
mount -o loop /srv/efi /mnt
mkdir -p /mnt/EFI/BOOT
cp /usr/lib/ipxe/ipxe.efi /mnt/EFI/BOOT/BOOTX64.EFI
printf '#!ipxe\\necho {EFI_MARK}\\nsleep 100000\\n' >/mnt/autoexec.ipxe
umount /mnt
serve efi {EFI_IQN}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Served on the PF's netdev, or on a VLAN interface of it. `login`: CHAP's user and secret."""

    pf: str
    vlan: int = 0
    disk: bytes = boot_sector()
    login: tuple[str, str] | None = None
    efi: bool = False

    def tree(self) -> Mapping[str, Content]:
        command = f"ExecStart=/bin/sh /usr/lib/lab-target {self.pf} {self.vlan}\nRemainAfterExit=yes\n"
        unit = f"[Unit]\nAfter=vfagent.service\n[Service]\nType=oneshot\n{command}"
        place = "/usr/lib/systemd/system/lab-target.service"
        serve = " ".join(("serve disk", IQN, *(self.login or ())))
        return {
            "/srv/disk": Entry(self.disk),
            "/usr/lib/lab-target": Entry("".join((_LINK, _TARGET, serve, "\n", _EFI if self.efi else "")).encode()),
            place: Entry(unit.encode()),
            "/etc/systemd/system/multi-user.target.wants/lab-target.service": Entry(target=place),
        }
