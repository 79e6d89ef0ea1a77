# SPDX-License-Identifier: Apache-2.0
"""A vfagent process on the fake kernel: any effect can fail or be its last, and all effects are recorded."""

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.model import effects
from tests.model.effects import Effect, Kind
from tests.model.kernel import Kernel
from tests.model.network_views import JournalView, NetworkView
from tests.model.never import Violation, objection, open_to_all
from tests.model.turns import TurnView
from tests.model.views import DeviceUsersView, DevlinkView, RtnlView, SysfsView, UdevView
from vfagent.kernel.protocols import Host
from vfagent.model.vf_settings import VfSettings

_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


class Killed(BaseException):
    """SIGKILL: no handler runs. Later effects of the process are not executed."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill before or after the effect of this number is executed."""

    number: int
    after: bool


Fault = Callable[[int, Effect], int]
"""The errno with which the effect of this number fails, or 0."""


def no_fault(number: int, effect: Effect) -> int:
    return 0


@dataclass(slots=True)
class Process:
    kernel: Kernel
    subject: str | None = None  # the PF that is reconciled: no other PF may be changed
    allow_management: bool = False
    releasing: bool = False
    isolation: Mapping[int, VfSettings] = field(default_factory=dict)  # by VF: what it must have when it is bound
    kill: Kill | None = None
    fault: Fault = no_fault
    done: list[Effect] = field(default_factory=list)
    dead: bool = False
    turn: TurnView | None = None

    def host(self) -> Host:
        sysfs, rtnl = SysfsView(self.kernel, self._act), RtnlView(self.kernel, self._act)
        network = NetworkView(self.kernel, self._act)
        moves = JournalView(self.kernel.links, self._act)
        self.turn = TurnView(self.kernel) if self.kernel.one_card else None
        users = DeviceUsersView(self.kernel)
        return Host(sysfs, rtnl, DevlinkView(), UdevView(self.kernel), network, network, moves, users, self.turn)

    def _act(self, effect: Effect) -> None:
        number = len(self.done)
        if self.dead:
            raise Killed
        self._check(effect)
        self.done.append(effect)
        self._die_if(Kill(number, after=False))
        try:
            if failure := self.fault(number, effect):
                self.kernel.ipv6_refused |= effect.kind is Kind.IPV6 and failure in _FORBIDDEN
                raise OSError(failure, os.strerror(failure))
            effects.carry_out(self.kernel, effect)
        finally:
            self._die_if(Kill(number, after=True))

    def _die_if(self, now: Kill) -> None:
        if self.kill == now:
            self.dead = True
            raise Killed

    def _check(self, effect: Effect) -> None:
        reason = objection(self.kernel, effect, allow_management=self.allow_management)
        pf, vf = effects.subject(self.kernel, effect)
        if effect.kind is Kind.PROBE and pf and vf and vf.driver is None:
            reason = open_to_all(pf, vf, self.isolation.get(vf.index, VfSettings()))
        if effect.kind is Kind.MTU and pf and pf.netdev and not self.releasing and int(effect.value) <= pf.netdev.mtu:
            reason = "the MTU is raised, never lowered"
        if effect.kind is Kind.NUMVFS and self.turn and not self.turn.taken:
            reason = "it is not this card's turn"
        if reason is None and pf is not None and self.subject not in (None, pf.address):
            reason = f"{self.subject} is reconciled, no other PF"
        if reason:
            raise Violation(f"{effect}: {reason}")
