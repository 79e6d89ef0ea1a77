# SPDX-License-Identifier: Apache-2.0
"""A guest's VFs, the unit to start for it, and the guest units of systemd."""

from vfagent.frozen import frozen
from vfagent.model.pci import PciAddress

UNIT_PREFIX = "vfagent-guest-"
UNIT_SUFFIX = ".service"
# The unit's environment records what it was started for, so that it is known after a restart of vfagent.
ENV_VFS = "VFAGENT_VFS"
ENV_RULE = "VFAGENT_RULE"

PAUSED = {
    "paused": "somebody paused it over QMP",
    "io-error": "a disk has failed or is full",
    "internal-error": "QEMU or KVM met an error that it cannot handle, as one of its VF",
    "guest-panicked": "its kernel panicked",
    "watchdog": "its watchdog fired",
}
"""QEMU's run states (qapi/run-state.json, RunState) in which it has paused the guest."""

FAILED_STATES = frozenset(PAUSED) - {"paused"}

# The exit status of ask-guest. Lower ones, and systemd's from 200 on, have other meanings.
RUN_STATES = {state: 64 + number for number, state in enumerate(("running", *PAUSED))}


@frozen(slots=True)
class GuestVf:
    """A VF assigned to a guest. `hardware` is its vendor and device: `8086:10ca`; `mac`: "" where it has none."""

    pf: PciAddress
    index: int
    address: PciAddress
    iommu_group: int | None
    numa_node: int | None = None
    hardware: str = ""
    mac: str = ""

    def __str__(self) -> str:
        return f"{self.pf}/vf{self.index}"


@frozen(slots=True)
class Property:
    """A unit property with its D-Bus signature."""

    name: str
    signature: str
    value: object


@frozen(slots=True)
class UnitSpec:
    """The arguments of StartTransientUnit."""

    unit: str
    properties: tuple[Property, ...]


@frozen(slots=True)
class FoundUnit:
    """A guest's unit as systemd lists it."""

    guest: str
    active: str  # systemd's ActiveState
    sub: str
    result: str
    pid: int
    vfs: tuple[PciAddress, ...]
    rule: str  # digest of the rule it was started for
    restarts: int = 0  # by systemd, since the unit was created
    started_at: float | None = None  # the start of QEMU, in seconds since the epoch

    @property
    def running(self) -> bool:
        """QEMU runs, starts or stops, or systemd restarts it: the guest uses its VFs."""
        return self.active not in ("inactive", "failed")


def unit_name(guest: str) -> str:
    return f"{UNIT_PREFIX}{guest}{UNIT_SUFFIX}"


def guest_of_unit(unit: str) -> str:
    return unit.removeprefix(UNIT_PREFIX).removesuffix(UNIT_SUFFIX)


def escape_path(path: str) -> str:
    """As systemd-escape --path does."""
    text = "/".join(part for part in path.split("/") if part)
    return "".join(_escaped(char, first=number == 0) for number, char in enumerate(text))


def _escaped(char: str, *, first: bool) -> str:
    if char == "/":
        return "-"
    plain = char.isascii() and (char.isalnum() or char in ":_" or (char == "." and not first))
    return char if plain else "".join(f"\\x{byte:02x}" for byte in char.encode())
