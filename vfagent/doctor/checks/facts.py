# SPDX-License-Identifier: Apache-2.0
"""All that `doctor` knows of a host, as one frozen value. Gathered by `gather_facts`, judged by the checks."""

from collections.abc import Iterator
from dataclasses import field
from enum import StrEnum
from fnmatch import fnmatchcase

from vfagent.doctor.checks.finding import Severity, Unseen
from vfagent.frozen import frozen
from vfagent.guests.spec.placement import ManagedPf
from vfagent.guests.spec.rom import RomImage
from vfagent.model.desired import DesiredPf
from vfagent.model.inventory import VFIO_DRIVER, Pf
from vfagent.model.pci import PciAddress
from vfagent.plan.planner import Plan
from vfagent.policy.match import HostIdentity
from vfagent.policy.references import vf_reference
from vfagent.policy.types import GuestRule, PfRule, Policy


@frozen(slots=True)
class TextFile:
    """A file of the host's, as it was read."""

    path: str
    text: str


class Source(StrEnum):
    """Where somebody else may have been told about PFs or VFs."""

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
    """`active` and `enabled` are systemd's words; None where systemd could not be asked."""

    unit: bool = True
    udev_rules: bool = True
    hwdb: bool = True
    active: str | None = None
    result: str | None = None
    enabled: str | None = None
    version: str | None = None  # of the running process
    digest: str | None = None  # of the policy in force
    troubles: tuple[tuple[str, str, str | None], ...] = ()  # PF, what failed, what to do


@frozen(slots=True)
class Kernel:
    """The running kernel, its processor and its log, as far as VFs and guests need them."""

    version: tuple[int, ...] = ()
    release: str = ""
    cmdline: str = ""
    cpu: str = ""  # vendor_id, as in /proc/cpuinfo
    virtualizes: bool = True  # the CPU says that it can run guests
    virtual: bool = False  # this host is a guest itself
    log: tuple[str, ...] = ()
    has_vfio: bool = True  # the driver vfio-pci is there
    can_load_vfio: bool = True


@frozen(slots=True)
class Iommu:
    """What the firmware and the kernel say of the IOMMU; None where they say nothing."""

    on: bool = True  # there are IOMMU groups
    table: str | None = None  # in which ACPI table the firmware describes it; "" in none, None where that is not known
    remaps_interrupts: bool | None = None
    unsafe_interrupts: bool = False
    no_iommu: bool = False


@frozen(slots=True)
class Kvm:
    """`works` is the answer of a trial; None where none was made."""

    device: bool = True
    permitted: bool = True  # the group kvm may open it
    group: bool = True  # there is a group kvm
    works: bool | None = None


@frozen(slots=True)
class Memory:
    """What the host has in all, and set aside in huge pages."""

    total_mib: int = 0
    huge_mib: int = 0


@frozen(slots=True)
class PfFacts:
    """A PF, what the policy wants of it, and the plan. `companions`: devices of other cards in the PF's own group."""

    pf: Pf
    desired: DesiredPf | None = None
    plan: Plan = Plan()
    companions: tuple[PciAddress, ...] = ()
    ari: bool | None = None
    vf_device: str | None = None  # the device ID that its VFs have

    @property
    def vf_hardware(self) -> str:
        return f"{self.pf.vendor.removeprefix('0x')}:{self.vf_device}" if self.vf_device else ""


@frozen(slots=True)
class Card:
    """A NIC that offers no VFs. `offered`: TotalVFs in its SR-IOV capability; None where it shows none."""

    pf: Pf
    offered: int | None = None
    seen: bool = True  # the configuration space could be read


@frozen(slots=True)
class Programs:
    """`qemu`: its version; None where it is not there, or says none. `absent`: of the files that guests need."""

    qemu: tuple[int, ...] | None = None
    absent: frozenset[str] = frozenset()
    roms: tuple[tuple[str, tuple[RomImage, ...]], ...] = ()
    listening: frozenset[int] = frozenset()  # TCP ports
    addresses: frozenset[str] = frozenset()  # the host's own


@frozen(slots=True, kw_only=True)
class Facts:
    """`policy` is None where it is invalid."""

    policy: Policy | None
    policy_problems: tuple[str, ...] = ()
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
    stuck: tuple[PciAddress, ...] = ()  # PFs of which the kernel did not answer
    others: tuple[tuple[Source, TextFile], ...] = ()
    unseen: tuple[Unseen, ...] = field(default=())

    @property
    def managed(self) -> Iterator[tuple[PfFacts, DesiredPf]]:
        return ((one, one.desired) for one in self.pfs if one.desired)

    @property
    def rules(self) -> tuple[PfRule, ...]:
        """Those that are not for another host alone."""
        rules = self.policy.pf if self.policy else ()
        return tuple(rule for rule in rules if fnmatchcase(self.identity.hostname, rule.match.host or "*"))

    @property
    def guests(self) -> tuple[GuestRule, ...]:
        """Those of which no VF is of a rule for another host."""
        here = {rule.name for rule in self.rules}
        guests = self.policy.guest if self.policy else ()
        return tuple(guest for guest in guests if _labels(guest) <= here)

    @property
    def wants_vfio(self) -> bool:
        return any(vf.driver == VFIO_DRIVER for rule in self.rules for vf in rule.vf)

    @property
    def wants_guests(self) -> bool:
        return bool(self.guests)

    def of(self, source: Source) -> Iterator[TextFile]:
        return (file for kind, file in self.others if kind is source)


def _labels(guest: GuestRule) -> set[str]:
    texts = (*guest.vfs, *([guest.each] if guest.each else []))
    return {vf_reference(text).label for text in texts}


def needed(*, wanted: bool) -> Severity:
    """What the policy does not ask for stands in nobody's way yet."""
    return Severity.ERROR if wanted else Severity.WARNING


def managed_pfs(facts: Facts) -> tuple[ManagedPf, ...]:
    return tuple(ManagedPf(one.pf, desired, one.plan) for one, desired in facts.managed)
