# SPDX-License-Identifier: Apache-2.0
"""The steps a plan is made of. `plan` prints `describe()`; `run` executes the same values."""

from dataclasses import fields

from vfagent.frozen import frozen
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings
from vfagent.plan.network_steps import NetworkStep


@frozen
class SetAutoprobe:
    """Whether VFs that are made get a host driver by themselves."""

    pf: PciAddress
    on: bool

    def describe(self) -> str:
        return f"set sriov_drivers_autoprobe of {self.pf} to {int(self.on)}"


@frozen
class SetNumvfs:
    """Write `sriov_numvfs`. The kernel wants 0 between two counts, so `count` or what stands is 0."""

    pf: PciAddress
    count: int

    def describe(self) -> str:
        return f"create {self.count} VFs on {self.pf}" if self.count else f"remove all VFs of {self.pf}"


@frozen
class SetMtu:
    """The MTU of a PF's netdev, in bytes."""

    pf: PciAddress
    ifindex: int
    mtu: int

    def describe(self) -> str:
        return f"set MTU of {self.pf} to {self.mtu}"


@frozen
class SetAdminState:
    """Bring a PF's netdev up or down."""

    pf: PciAddress
    ifindex: int
    up: bool

    def describe(self) -> str:
        return f"set {self.pf} {'up' if self.up else 'down'}"


@frozen
class ConfigureVf:
    """Set attributes of a VF through its PF; only those that are not None."""

    pf: PciAddress
    ifindex: int
    index: int
    settings: VfSettings

    def describe(self) -> str:
        return f"set {self.pf}/vf{self.index} {describe_settings(self.settings)}"


@frozen
class BindDriver:
    """Bind a VF to `driver` by driver_override, or to the kernel's own VF driver where it is None.

    `address` is None for a VF that is still to be made: where it will be is the kernel's to say.
    """

    pf: PciAddress
    index: int
    address: PciAddress | None
    driver: str | None

    def describe(self) -> str:
        address = f" ({self.address})" if self.address else ""
        return f"bind {self.pf}/vf{self.index}{address} to {self.driver or 'its host driver'}"


@frozen
class UnbindDriver:
    """Leave a VF without a driver, and without an override that would bring one back."""

    pf: PciAddress
    index: int
    address: PciAddress

    def describe(self) -> str:
        return f"unbind {self.pf}/vf{self.index} ({self.address})"


PfStep = SetAutoprobe | SetNumvfs | SetMtu | SetAdminState | ConfigureVf | BindDriver | UnbindDriver
Step = PfStep | NetworkStep


def describe_settings(settings: VfSettings) -> str:
    """`mac 02:…, vlan 10`: the attributes that are set."""
    values = ((field.name, getattr(settings, field.name)) for field in fields(settings))
    return ", ".join(f"{name} {_word(value)}" for name, value in values if value is not None)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
