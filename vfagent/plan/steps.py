# SPDX-License-Identifier: Apache-2.0
"""The steps on a PF and its VFs, as values.

`vfagent plan` prints `describe()`; the executor executes the same values.
"""

from collections.abc import Iterator
from dataclasses import fields
from typing import get_args

from vfagent.frozen import frozen
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings
from vfagent.plan.network_steps import NetworkStep
from vfagent.plan.step_facts import StepFacts


@frozen
class SetAutoprobe(StepFacts):
    """Whether the kernel binds new VFs to their host driver."""

    KEY = ("pf", "on")
    CHANGES = "autoprobe"

    pf: PciAddress
    on: bool

    def describe(self) -> str:
        return f"set sriov_drivers_autoprobe of {self.pf} to {int(self.on)}"


@frozen
class SetNumvfs(StepFacts):
    """Write `sriov_numvfs`. The kernel wants 0 between two counts, so `count` or the current value is 0."""

    KEY = ("pf", "count")
    CHANGES = "numvfs"

    pf: PciAddress
    count: int

    def describe(self) -> str:
        return f"create {self.count} VFs on {self.pf}" if self.count else f"remove all VFs of {self.pf}"

    @property
    def destroys(self) -> bool:
        return not self.count

    @property
    def deadline_s(self) -> float:
        """The kernel sleeps for a second in a removal; some drivers take 22 s to create 64 VFs, 65 s for 125."""
        return 30.0 + self.count if self.count else 60.0


@frozen
class SetMtu(StepFacts):
    """Set the MTU of a PF's netdev, in bytes."""

    KEY = ("pf",)
    CHANGES = "mtu"

    pf: PciAddress
    ifindex: int
    mtu: int

    def describe(self) -> str:
        return f"set MTU of {self.pf} to {self.mtu}"


@frozen
class SetAdminState(StepFacts):
    """Bring a PF's netdev up or down."""

    KEY = ("pf", "up")
    CHANGES = "admin_state"

    pf: PciAddress
    ifindex: int
    up: bool

    def describe(self) -> str:
        return f"set {self.pf} {'up' if self.up else 'down'}"


@frozen(slots=True)
class ConfigureVf(StepFacts):
    """Set those attributes of a VF, through its PF, that are not None.

    `first`: what isolates it, before its driver is bound; the rest follows when the port is up.
    """

    KEY = ("pf", "index", "first")

    pf: PciAddress
    ifindex: int
    index: int
    settings: VfSettings
    first: bool = False

    def describe(self) -> str:
        return f"set {self.pf}/vf{self.index} {describe_settings(self.settings)}"

    @property
    def changes(self) -> tuple[str, ...]:
        return names(self.settings)


@frozen(slots=True)
class BindDriver(StepFacts):
    """Bind a VF to `driver` by driver_override, or to its host driver where `driver` is None.

    `address` is None for a VF that does not exist yet: the kernel assigns it. `isolation`: what has to be set before,
    since another program may open the VF as soon as it is bound, and then it is not changed any more.
    """

    KEY = ("pf", "index", "driver")
    CHANGES = "driver"

    pf: PciAddress
    index: int
    address: PciAddress | None
    driver: str | None
    isolation: VfSettings = VfSettings()

    def describe(self) -> str:
        address = f" ({self.address})" if self.address else ""
        return f"bind {self.pf}/vf{self.index}{address} to {self.driver or 'its host driver'}"


@frozen(slots=True)
class UnbindDriver(StepFacts):
    """Unbind a VF, and clear the driver_override that would bind it again."""

    KEY = ("pf", "index")
    CHANGES = "driver"

    pf: PciAddress
    index: int
    address: PciAddress

    def describe(self) -> str:
        return f"unbind {self.pf}/vf{self.index} ({self.address})"

    @property
    def destroys(self) -> bool:
        return True


VfStep = ConfigureVf | BindDriver | UnbindDriver
PfStep = SetAutoprobe | SetNumvfs | SetMtu | SetAdminState | ConfigureVf | BindDriver | UnbindDriver
Step = PfStep | NetworkStep

KINDS: tuple[str, ...] = tuple(step.KIND for step in get_args(Step))


def names(settings: VfSettings) -> tuple[str, ...]:
    """The attributes that are set."""
    return tuple(field.name for field in fields(settings) if getattr(settings, field.name) is not None)


def parts(settings: VfSettings) -> Iterator[tuple[str, VfSettings]]:
    """Each attribute that is set, alone."""
    return ((name, VfSettings(**{name: getattr(settings, name)})) for name in names(settings))


def describe_settings(settings: VfSettings) -> str:
    """`mac 02:…, vlan 10`: the attributes that are set."""
    values = ((field.name, getattr(settings, field.name)) for field in fields(settings))
    return ", ".join(f"{name} {_word(value)}" for name, value in values if value is not None)


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
