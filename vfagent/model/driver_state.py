# SPDX-License-Identifier: Apache-2.0
"""What was learnt about a PF that cannot be observed again. A cache: losing it costs one attempt each."""

from dataclasses import field, replace

from vfagent.frozen import frozen
from vfagent.model.inventory import Pf
from vfagent.model.vf_settings import Attribute, VfSettings


@frozen
class StepResult:
    """What was learnt from a step that did not fail. `full`: the card's table takes no more entries."""

    unsupported: frozenset[Attribute] = frozenset()
    applied: VfSettings = VfSettings()
    full: bool = False
    made: int | None = None  # VFs, where the driver made fewer than it was asked for


@frozen
class DriverState:
    """Holds for one driver on one netdev; `applied` stands in for what the driver does not report."""

    driver: str | None = None
    ifindex: int | None = None
    unsupported: frozenset[Attribute] = frozenset()
    applied: dict[int, VfSettings] = field(default_factory=dict)
    hwmode: str | None = None  # set on a driver that does not report it
    fdb: frozenset[str] = frozenset()  # entries of the PF's table that are vfagent's
    fdb_full: int | None = None  # how many of them the card took, where it refused the next
    addressed: bool = False  # a leg on it had addresses given: they may be on somebody's bridge when it has gone
    most_vfs: int | None = None  # as many VFs did the driver make when it was asked for more

    def for_pf(self, pf: Pf) -> "DriverState":
        """This memory where it is of this PF as it is now, else an empty one."""
        ifindex = pf.netdev.ifindex if pf.netdev else None
        if (self.driver, self.ifindex) == (pf.driver, ifindex):
            return self
        return DriverState(driver=pf.driver, ifindex=ifindex)

    def with_applied(self, index: int, settings: VfSettings) -> "DriverState":
        return replace(self, applied={**self.applied, index: settings})

    def updated(self, result: StepResult) -> "DriverState":
        most = self.most_vfs if result.made is None else result.made
        return replace(self, unsupported=self.unsupported | result.unsupported, most_vfs=most)

    def without_vfs(self) -> "DriverState":
        """The VFs were removed, and with them whatever had been set."""
        return replace(self, applied={}, hwmode=None)
