# SPDX-License-Identifier: Apache-2.0
"""The [[guest]] rules of a policy as values, declared as in `types`."""

from dataclasses import field

from vfagent.frozen import frozen
from vfagent.policy import strings
from vfagent.policy.unit_properties import UNIT_PROPERTIES
from vfagent.policy.value_types import (
    AnyOf,
    Array,
    ArrayOfTables,
    Boolean,
    Choice,
    Integer,
    NamedValues,
    Properties,
    Table,
    key,
)

_FIRMWARE = Choice(("bios", "uefi"))
_NUMA = Choice(("prefer", "strict", "none"))
_RESTART = Choice(("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"))
_SHARED = "Whether other guests write to the same disk, too, as a cluster file system expects."


@frozen(kw_only=True)
class IpxeRule:
    """[guest.ipxe]: network boot through the VF."""

    address: str | None = field(
        default=None,
        metadata=key(
            strings.HOST_ADDRESS_OR_DHCP, "The guest's address during boot, with its prefix length, or `dhcp`."
        ),
    )
    gateway: str | None = field(default=None, metadata=key(strings.ADDRESS, "The gateway; needs a fixed address."))
    sanboot: str | None = field(
        default=None, metadata=key(strings.BOOT_URL, "The disk to boot from; LUN 0 if the URL names none.")
    )
    filename: str | None = field(
        default=None,
        metadata=key(
            strings.BOOT_FILE,
            "With UEFI: the program that sanboot starts from the disk's system partition, instead of"
            " `/EFI/BOOT/BOOTX64.EFI`.",
        ),
    )
    script: str | None = field(
        default=None, metadata=key(strings.PATH, "A custom iPXE script, instead of address, gateway and sanboot.")
    )
    dns: str | None = field(
        default=None, metadata=key(strings.ADDRESS, "The name server; needs a fixed address. DHCP names one itself.")
    )
    initiator: str | None = field(
        default=None,
        metadata=key(
            strings.INITIATOR, "The guest's initiator name; if absent, `iqn.2010-04.org.ipxe:` and the guest's name."
        ),
    )
    shared: bool = field(default=False, metadata=key(Boolean(), _SHARED))
    loader: str = field(
        default="auto",
        metadata=key(
            Choice(("auto", "image", "rom", "undionly")),
            "`image` is the distribution's iPXE image, `rom` an option ROM for the VF; `auto` is the image where it has"
            " a driver for the VF, else the guest's kernel.",
        ),
    )
    rom: str | None = field(
        default=None,
        metadata=key(strings.ROM_FILE, 'With loader = "rom": use this file instead of a ROM built from ipxe_source.'),
    )


@frozen(kw_only=True)
class ChapRule:
    """[guest.chap]: CHAP credentials for the guest's iSCSI target."""

    user: str = field(metadata=key(strings.CHAP_USER, "The user name."))
    secret: str = field(metadata=key(strings.PATH, "A file of root's, mode 0600, whose only line is the secret."))


@frozen(kw_only=True)
class KernelRule:
    """[guest.kernel]: `root`, `address` and `gateway` go into the command line; None means the iPXE rule's value."""

    image: str = field(metadata=key(strings.PLAIN_PATH, "The kernel."))
    initrd: str | None = field(default=None, metadata=key(strings.PLAIN_PATH, "The initial RAM disk."))
    cmdline: str = field(default="", metadata=key(strings.COMMAND_LINE, "The kernel's command line."))
    root: str | None = field(
        default=None,
        metadata=key(strings.ISCSI_URL, "The iSCSI disk of the root file system; if absent, ipxe.sanboot."),
    )
    address: str | None = field(
        default=None,
        metadata=key(strings.HOST_ADDRESS_OR_DHCP, "The guest's address during boot; if absent, ipxe.address."),
    )
    gateway: str | None = field(
        default=None, metadata=key(strings.ADDRESS, "The gateway; needs a fixed address. If absent, ipxe.gateway.")
    )
    dns: str | None = field(
        default=None, metadata=key(strings.ADDRESS, "The name server; needs a fixed address. If absent, ipxe.dns.")
    )
    initiator: str | None = field(
        default=None, metadata=key(strings.INITIATOR, "The guest's initiator name; if absent, ipxe.initiator.")
    )
    shared: bool = field(default=False, metadata=key(Boolean(), _SHARED))


@frozen(kw_only=True)
class SeedRule:
    """[guest.seed]: what cloud-init in the guest reads from a disk with the label cidata (its data source NoCloud)."""

    user_data: str | None = field(
        default=None, metadata=key(strings.FILE_OR_TEXT, "The user data: a file of root's, or the text itself.")
    )
    meta_data: str | None = field(
        default=None,
        metadata=key(
            strings.FILE_OR_TEXT,
            "The metadata, likewise. If absent, the host name is the guest's name, and the instance ID differs with"
            " the guest and the other two.",
        ),
    )
    network_config: str | None = field(
        default=None, metadata=key(strings.FILE_OR_TEXT, "The network configuration, likewise.")
    )


@frozen(kw_only=True)
class DiskRule:
    """[[guest.disk]]: a file or block device of the host."""

    path: str = field(metadata=key(strings.PLAIN_PATH, "A file or block device."))
    format: str = field(default="raw", metadata=key(Choice(("raw", "qcow2")), "The image format."))
    readonly: bool = field(default=False, metadata=key(Boolean(), "Whether the guest has read-only access."))
    shared: bool = field(default=False, metadata=key(Boolean(), f"{_SHARED} It needs format `raw`."))
    backing: tuple[str, ...] = field(
        default=(),
        metadata=key(
            Array(strings.PLAIN_PATH, 16),
            "The files that a qcow2 image is based on, as it names them: QEMU sees no other files.",
        ),
    )

    @property
    def is_device(self) -> bool:
        """By its path: the device need not exist yet."""
        return self.path.startswith("/dev/")


@frozen(kw_only=True)
class NicRule:
    """[[guest.nic]]: a virtio NIC on a bridge of the host, beside the VFs or instead of one."""

    bridge: str = field(
        metadata=key(
            strings.INTERFACE, "The bridge that it is connected to, of the policy or foreign. It may come late."
        )
    )
    vlan: int | None = field(
        default=None,
        metadata=key(
            Integer(1, 4094),
            "Its VLAN on a bridge that filters by VLAN; the guest sees no tags. If absent, the bridge's default VLAN.",
        ),
    )
    mac: str | None = field(
        default=None,
        metadata=key(
            strings.NIC_MAC,
            "`stable` derives it from machine-id and the guest's name. With standby_for it is the VF's.",
            default='"stable"',
        ),
    )
    standby_for: str | None = field(
        default=None,
        metadata=key(
            strings.VF_REFERENCE,
            "One of the guest's VFs, as in vfs, or only its label: the guest uses this NIC while the VF is away.",
        ),
    )


@frozen(kw_only=True)
class GuestRule:
    """[[guest]]: a guest, or with `each` one per VF (see `references.guests_of`)."""

    name: str = field(metadata=key(strings.GUEST_NAME, "The guest's name; with `each`, it must contain `{index}`."))
    each: str | None = field(
        default=None,
        metadata=key(
            strings.VF_REFERENCES,
            "One guest per VF. `{index}` in any text of the guest is replaced by the VF index.",
        ),
    )
    vfs: tuple[str, ...] = field(
        default=(),
        metadata=key(
            Array(strings.VF_REFERENCE, 32), "Its VFs: label:index, or only a label for any free VF on a VFIO driver."
        ),
    )
    cpus: int = field(default=1, metadata=key(Integer(1, 1024), "The number of virtual CPUs."))
    memory_mib: int = field(
        default=512, metadata=key(strings.MEMORY, "The memory size.", spelling="memory", default='"512M"')
    )
    hugepages: bool | str = field(
        default=False,
        metadata=key(
            AnyOf((Boolean(), Choice(("2M", "1G")))),
            "Whether the memory is backed by huge pages: `true` is those of the kernel's default size.",
        ),
    )
    numa: str = field(
        default="prefer",
        metadata=key(
            _NUMA,
            "Where its memory and processors are: `prefer` the NUMA node of its VFs, `strict` with memory from there"
            " alone, `none` anywhere.",
        ),
    )
    vnc: str | None = field(
        default=None,
        metadata=key(
            strings.VNC,
            "The VNC server: a Unix socket that only root can open, or a display that every user of the host can. If"
            " absent, none is started.",
        ),
    )
    vnc_remote: str | None = field(
        default=None,
        metadata=key(strings.VNC_REMOTE, "Instead of vnc: a display that other hosts can open. It needs vnc_password."),
    )
    vnc_password: str | None = field(
        default=None,
        metadata=key(
            strings.PATH,
            "A file of root's, mode 0600, whose only line is VNC's password, of 1 to 8 characters.",
        ),
    )
    firmware: str = field(default="bios", metadata=key(_FIRMWARE, "The guest's firmware."))
    secure_boot: bool = field(
        default=False, metadata=key(Boolean(), "Whether the firmware starts only what is signed. It needs UEFI.")
    )
    tpm: bool = field(
        default=False, metadata=key(Boolean(), "Whether it has a TPM 2.0, which swtpm emulates and the guest keeps.")
    )
    machine: str | None = field(
        default=None,
        metadata=key(strings.MACHINE, "The machine type of QEMU. If absent, the newest at the guest's first start."),
    )
    restart: str = field(
        default="on-failure", metadata=key(_RESTART, "When systemd restarts the guest, as in systemd.service(5).")
    )
    after: tuple[str, ...] = field(
        default=(),
        metadata=key(Array(strings.GUEST_NAME, 32), "Guests that run before it is started, and end after it."),
    )
    ipxe: IpxeRule | None = field(default=None, metadata=key(Table(IpxeRule), "Network boot through the VF."))
    kernel: KernelRule | None = field(
        default=None, metadata=key(Table(KernelRule), "Direct kernel boot, for VFs that iPXE has no driver for.")
    )
    chap: ChapRule | None = field(default=None, metadata=key(Table(ChapRule), "CHAP credentials for the iSCSI target."))
    disk: tuple[DiskRule, ...] = field(
        default=(),
        metadata=key(
            ArrayOfTables(DiskRule, 16), "Disks of the host; without ipxe and kernel the guest boots from the first."
        ),
    )
    seed: SeedRule | None = field(
        default=None, metadata=key(Table(SeedRule, non_empty=True), "A disk with cloud-init's configuration.")
    )
    credentials: tuple[tuple[str, str], ...] = field(
        default=(),
        metadata=key(
            NamedValues(
                strings.CREDENTIAL,
                strings.FILE_OR_TEXT,
                32,
                "The credential *NAME*: a file of root's, mode 0600, or the text itself.",
            ),
            "Credentials for systemd in the guest.",
        ),
    )
    nic: tuple[NicRule, ...] = field(
        default=(), metadata=key(ArrayOfTables(NicRule, 2), "Virtio NICs on bridges of the host, two at most.")
    )
    unit: tuple[tuple[str, str | int | float | bool], ...] = field(
        default=(), metadata=key(Properties(UNIT_PROPERTIES), "Properties of the guest's systemd unit.")
    )
