# SPDX-License-Identifier: Apache-2.0
"""The facts about a host, as one frozen value: `gather_facts` reads them, the checks judge them."""

from collections.abc import Iterator, Mapping
from dataclasses import field
from enum import StrEnum

from vfagent.doctor.checks.finding import NotChecked, Severity
from vfagent.frozen import frozen
from vfagent.guests.spec.boot import ASSUMED, Images
from vfagent.guests.spec.placement import ManagedPf
from vfagent.guests.spec.rom import RomImage
from vfagent.model.desired import DesiredPf
from vfagent.model.evidence import is_vfio
from vfagent.model.inventory import Pf
from vfagent.model.pci import PciAddress
from vfagent.plan.planner import Plan
from vfagent.policy.match import HostIdentity, rules_for
from vfagent.policy.references import vf_reference
from vfagent.policy.types import GuestRule, PfRule, Policy


@frozen(slots=True)
class TextFile:
    """A file of the host and its text."""

    path: str
    text: str


class Source(StrEnum):
    """A kind of file that configures PFs, VFs or their drivers for another program."""

    MODPROBE = "modprobe.d"
    DRIVERCTL = "driverctl"
    LINK = "systemd.link"
    NETWORK = "systemd.network"
    NETPLAN = "netplan"
    NM_PROFILE = "NetworkManager profile"
    NM_STATE = "NetworkManager"
    UDEV = "udev rule"
    SCRIPT = "script or unit"
    LIBVIRT = "libvirt"
    OPERATOR = "operator"


@frozen(slots=True)
class Service:
    """vfagent.service. `active` and `enabled` are systemd's words; None if systemd could not be asked."""

    unit: bool = True
    udev_rules: bool = True
    hwdb: bool = True
    active: str | None = None
    result: str | None = None
    enabled: str | None = None
    version: str | None = None  # of the running process
    digest: str | None = None  # of the active policy
    failures: tuple[tuple[str, str, str | None], ...] = ()  # PF, text, hint


ARM = "ARM"


@frozen(slots=True)
class Kernel:
    """The running kernel, the processor and the kernel log."""

    version: tuple[int, ...] = ()
    release: str = ""
    cmdline: str = ""
    cpu: str = ""  # vendor_id, as in /proc/cpuinfo; ARM where it has an implementer instead
    virtualizes: bool = True  # the CPU has VT-x or SVM
    virtual: bool = False  # this host is a VM
    log: tuple[str, ...] = ()
    has_vfio: bool = True  # the driver vfio-pci is registered
    can_load_vfio: bool = True
    drivers: frozenset[str] = frozenset()  # PCI drivers that are registered
    lockdown: str = ""  # integrity or confidentiality, while the kernel is locked down
    mlx4_num_vfs: str = ""  # mlx4_core's parameter num_vfs, as the module has it
    vfio_sriov: bool = False  # vfio-pci's parameter enable_sriov
    vfio_denylist: bool = True  # vfio-pci's parameter disable_denylist is not set


@frozen(slots=True)
class Iommu:
    """The IOMMU, according to the firmware and the kernel. None: unknown."""

    on: bool = True  # there are IOMMU groups
    table: str | None = None  # the ACPI table that describes it; "" if there is none
    remaps_interrupts: bool | None = None
    unsafe_interrupts: bool = False
    no_iommu: bool = False


@frozen(slots=True)
class Kvm:
    """`works` is the result of the KVM probe; None if it has not run."""

    device: bool = True
    permitted: bool = True  # the group kvm may open /dev/kvm
    group: bool = True  # the group kvm exists
    works: bool | None = None


@frozen(slots=True)
class Memory:
    """The host's memory, and the part of it that is in huge pages, by the size of a page in KiB."""

    total_mib: int = 0
    huge_mib: Mapping[int, int] = field(default_factory=dict)
    default_kib: int = 2048  # the size of a huge page where nothing says which


@frozen(slots=True)
class PfFacts:
    """A PF, its desired state and its plan. `companions`: devices of other cards in the PF's IOMMU group."""

    pf: Pf
    desired: DesiredPf | None = None
    plan: Plan = Plan()
    companions: tuple[PciAddress, ...] = ()
    ari: bool | None = None
    vf_device: str | None = None  # device ID of its VFs

    @property
    def vf_hardware(self) -> str:
        return f"{self.pf.vendor.removeprefix('0x')}:{self.vf_device}" if self.vf_device else ""


@frozen(slots=True)
class Card:
    """A NIC without VFs. `offered`: TotalVFs in its SR-IOV capability; None if it has no such capability."""

    pf: Pf
    offered: int | None = None
    readable: bool = True  # the extended configuration space could be read


@frozen(slots=True)
class Programs:
    """`qemu`: its version; None if unknown. `absent`: missing files that guests need."""

    qemu: tuple[int, ...] | None = None
    absent: frozenset[str] = frozenset()
    roms: tuple[tuple[str, tuple[RomImage, ...]], ...] = ()
    images: Images = field(default_factory=lambda: ASSUMED)
    listening: frozenset[int] = frozenset()  # TCP ports on this host
    addresses: frozenset[str] = frozenset()  # of this host
    firmware: tuple[str, ...] = ()  # QEMU's descriptor files


@frozen(slots=True, kw_only=True)
class Facts:
    """All that the checks judge. `policy` is None if it is invalid."""

    policy: Policy | None
    policy_problems: tuple[str, ...] = ()
    untrusted: tuple[tuple[str, str], ...] = ()  # files of the policy that others can change or read, and why
    identity: HostIdentity
    version: str = ""
    service: Service = Service()
    kernel: Kernel = Kernel()
    iommu: Iommu = Iommu()
    kvm: Kvm = Kvm()
    memory: Memory = Memory()
    programs: Programs = Programs()
    pfs: tuple[PfFacts, ...] = ()
    cards: tuple[Card, ...] = ()
    stuck: tuple[PciAddress, ...] = ()  # PFs whose kernel call did not return
    others: tuple[tuple[Source, TextFile], ...] = ()  # files of other managers
    not_checked: tuple[NotChecked, ...] = field(default=())

    @property
    def managed(self) -> Iterator[tuple[PfFacts, DesiredPf]]:
        return ((pf_facts, pf_facts.desired) for pf_facts in self.pfs if pf_facts.desired)

    @property
    def rules(self) -> tuple[PfRule, ...]:
        """The rules for this host."""
        return rules_for(self.identity, self.policy) if self.policy else ()

    @property
    def guests(self) -> tuple[GuestRule, ...]:
        """The guests whose VFs all come from rules for this host."""
        names = {rule.name for rule in self.rules}
        guests = self.policy.guest if self.policy else ()
        return tuple(guest for guest in guests if _labels(guest) <= names)

    @property
    def wants_vfio(self) -> bool:
        return any(is_vfio(vf.driver) for rule in self.rules for vf in rule.vf)

    @property
    def wants_guests(self) -> bool:
        return bool(self.guests)

    def of(self, source: Source) -> Iterator[TextFile]:
        return (file for kind, file in self.others if kind is source)


def _labels(guest: GuestRule) -> set[str]:
    texts = (*guest.vfs, *([guest.each] if guest.each else []))
    return {vf_reference(text).label for text in texts}


def error_if(*, wanted: bool) -> Severity:
    """Only what the policy asks for is an error."""
    return Severity.ERROR if wanted else Severity.WARNING


def managed_pfs(facts: Facts) -> tuple[ManagedPf, ...]:
    return tuple(ManagedPf(pf_facts.pf, desired, pf_facts.plan) for pf_facts, desired in facts.managed)
