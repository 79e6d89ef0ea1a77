# SPDX-License-Identifier: Apache-2.0
"""The [[guest]] rules of a policy as values; `types` tells how they are declared."""

from dataclasses import field

from vfagent.frozen import frozen
from vfagent.policy import strings
from vfagent.policy.unit_properties import UNIT_PROPERTIES
from vfagent.policy.value_types import Choice, Flag, Properties, Several, Table, Tables, Whole, key

_FIRMWARE = Choice(("bios", "uefi"))
_RESTART = Choice(("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"))


@frozen(kw_only=True)
class IpxeRule:
    """[guest.ipxe]: boots through the VF."""

    address: str | None = field(
        default=None,
        metadata=key(
            strings.HOST_ADDRESS_OR_DHCP, "The guest's address while it boots, with its prefix length, or `dhcp`."
        ),
    )
    gateway: str | None = field(default=None, metadata=key(strings.ADDRESS, "The gateway, with a fixed address."))
    sanboot: str | None = field(
        default=None, metadata=key(strings.BOOT_URL, "The disk to boot from. LUN 0 if the URL names none.")
    )
    script: str | None = field(
        default=None, metadata=key(strings.PATH, "An iPXE script of your own, instead of address, gateway and sanboot.")
    )
    loader: str = field(
        default="auto",
        metadata=key(
            Choice(("auto", "image", "rom", "undionly")),
            "`image` is the distribution's iPXE image, `rom` a ROM for the VF; `auto` takes what can drive the VF, else"
            " the guest's kernel.",
        ),
    )
    rom: str | None = field(
        default=None, metadata=key(strings.ROM_FILE, 'With loader = "rom": this file, not one built from ipxe_source.')
    )


@frozen(kw_only=True)
class ChapRule:
    """[guest.chap]: how the guest shows the iSCSI target who it is."""

    user: str = field(metadata=key(strings.CHAP_USER, "The name the target knows the guest by."))
    secret: str = field(metadata=key(strings.PATH, "A file that holds the secret, in one line."))


@frozen(kw_only=True)
class KernelRule:
    """[guest.kernel]: `root`, `address`, `gateway` go into the command line; where None, the iPXE rule's do."""

    image: str = field(metadata=key(strings.PATH, "The kernel."))
    initrd: str | None = field(default=None, metadata=key(strings.PATH, "The initial RAM disk."))
    cmdline: str = field(default="", metadata=key(strings.COMMAND_LINE, "The kernel's command line."))
    root: str | None = field(
        default=None, metadata=key(strings.ISCSI_URL, "The iSCSI disk of the root file system; ipxe.sanboot if absent.")
    )
    address: str | None = field(
        default=None,
        metadata=key(strings.HOST_ADDRESS_OR_DHCP, "The guest's address while it boots; ipxe.address if absent."),
    )
    gateway: str | None = field(
        default=None, metadata=key(strings.ADDRESS, "The gateway, with a fixed address; ipxe.gateway if absent.")
    )


@frozen(kw_only=True)
class DiskRule:
    """[[guest.disk]]: a file or block device of the host."""

    path: str = field(metadata=key(strings.PATH, "A file or block device."))
    format: str = field(default="raw", metadata=key(Choice(("raw", "qcow2")), "How the file is written."))
    readonly: bool = field(default=False, metadata=key(Flag(), "Whether the guest may only read it."))

    @property
    def is_device(self) -> bool:
        """By its path, as it need not be there yet."""
        return self.path.startswith("/dev/")


@frozen(kw_only=True)
class GuestRule:
    """[[guest]]: a guest, or with `each` one per VF (see `references.guests_of`)."""

    name: str = field(metadata=key(strings.GUEST_NAME, "The guest's name; with `each`, it holds `{index}`."))
    each: str | None = field(
        default=None,
        metadata=key(
            strings.VF_REFERENCES,
            "Makes one guest per VF; `{index}` in name, vnc, script, sanboot, root, cmdline and disk path is the VF's.",
        ),
    )
    vfs: tuple[str, ...] = field(
        default=(),
        metadata=key(
            Several(strings.VF_REFERENCE, 32), "Its VFs: label:index, or a label alone for any free vfio-pci VF."
        ),
    )
    cpus: int = field(default=1, metadata=key(Whole(1, 1024), "How many virtual CPUs."))
    memory_mib: int = field(
        default=512, metadata=key(strings.MEMORY, "How much memory.", spelling="memory", default='"512M"')
    )
    hugepages: bool = field(default=False, metadata=key(Flag(), "Whether the memory is made of huge pages."))
    vnc: str | None = field(default=None, metadata=key(strings.VNC, "Where the screen is shown; nowhere if absent."))
    firmware: str = field(default="bios", metadata=key(_FIRMWARE, "The guest's firmware."))
    restart: str = field(
        default="on-failure", metadata=key(_RESTART, "When the guest is started again, as in systemd.")
    )
    ipxe: IpxeRule | None = field(default=None, metadata=key(Table(IpxeRule), "Boots through the VF."))
    kernel: KernelRule | None = field(
        default=None, metadata=key(Table(KernelRule), "Boots a kernel directly, for VFs that iPXE cannot drive.")
    )
    chap: ChapRule | None = field(
        default=None, metadata=key(Table(ChapRule), "What the guest logs in to its iSCSI target with, if anything.")
    )
    disk: tuple[DiskRule, ...] = field(default=(), metadata=key(Tables(DiskRule, 16), "Boots from a disk of the host."))
    unit: tuple[tuple[str, str | int | float | bool], ...] = field(
        default=(), metadata=key(Properties(UNIT_PROPERTIES), "Properties of the guest's systemd unit.")
    )
