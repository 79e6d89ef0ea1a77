# SPDX-License-Identifier: Apache-2.0
"""The policy's bridges by themselves: those that no PF's leg is in must be there too, and ours go with their rules.

A PF's look makes the bridges that its own legs are in, so that it need not wait for this; both take what the other
made for done.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.guests.worker_calls import Outcome, WorkerCalls
from vfagent.kernel.protocols import Host
from vfagent.model.network import HostNetwork, Link
from vfagent.model.pci import PciAddress
from vfagent.plan.network import plan_bridge
from vfagent.plan.steps import DeleteLink
from vfagent.plan.vf import Deferred, Planned
from vfagent.policy.host_network import desired_bridge, every_vlan_interface
from vfagent.policy.types import Policy
from vfagent.reconcile.execute import execute
from vfagent.reconcile.observe import NETDEVS, management_of
from vfagent.reconcile.observe_network import is_managed

log = logging.getLogger(__name__)

_SOON_S = 0.2
_LIMIT_S = 30.0
_AGAIN_S = 10.0  # where a look came to nothing
_NO_PF = PciAddress("")


@frozen(slots=True)
class BridgesFound:
    """What a look at the bridges did, and what it could not do."""

    done: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    ifindexes: frozenset[int] = frozenset()


Item = Planned | Deferred | str


def plan_bridges(policy: Policy, host: Host) -> tuple[Item, ...]:
    """What the policy's bridges lack, and which of ours it has no rule for."""
    named = (host.network.link(rule.name) for rule in policy.bridge)
    network = HostNetwork(tuple(link for link in named if link))
    items = [item for rule in policy.bridge for item in plan_bridge(desired_bridge(rule), _NO_PF, network)]
    return (*items, *(_stale(policy, host) if policy.digest else ()))


def _stale(policy: Policy, host: Host) -> Iterator[Item]:
    wanted = {rule.name for rule in policy.bridge}
    moving = {address for vlan_interface in every_vlan_interface(policy) for address in vlan_interface.addresses}
    moving |= {one.address for one in host.moves.borrowed()}
    for name in _managed(host):
        if name not in wanted and (link := host.network.link(name)):
            yield _removal(link, moving, host)


def _managed(host: Host) -> Iterator[str]:
    """The bridges that vfagent made, by sysfs alone: that can be asked on the loop."""
    bridges = (name for name in host.sysfs.names(NETDEVS) if host.sysfs.exists(f"{NETDEVS}/{name}/bridge"))
    return (name for name in bridges if is_managed(host, name))


def _removal(link: Link, moving: set[str], host: Host) -> Item:
    """Not before its ports have left it, and the look at their PF has moved away what others are to hold."""
    step, reason = DeleteLink(_NO_PF, link.name, link.ifindex), "not in the policy"
    ports = host.sysfs.names(f"{NETDEVS}/{link.name}/brif")
    if ports:
        return Deferred(step, reason, f"{', '.join(ports)}: still its ports")
    held = [one.text for one in host.network.addresses().get(link.ifindex, ()) if one.text in moving]
    if held:
        return Deferred(step, reason, f"{', '.join(held)}: still on it")
    why = management_of(host, link.name)
    return Deferred(step, reason, f"{link.name} {why}") if why else Planned(step, reason)


def converge_bridges(policy: Policy, host: Host) -> BridgesFound:
    done, problems = list[str](), list[str]()
    for item in plan_bridges(policy, host):
        match item:
            case Planned():
                try:
                    execute(item.step, host)
                    done.append(item.step.describe())
                except VfagentError as error:
                    problems.append(f"{error} ({error.hint})" if error.hint else str(error))
            case Deferred():
                problems.append(f"{item.step.describe()} is deferred: {item.blocker}")
            case _:
                problems.append(item)
    links = (host.network.link(rule.name) for rule in policy.bridge)
    return BridgesFound(tuple(done), tuple(problems), frozenset(link.ifindex for link in links if link))


class HostBridges:
    """Looks in a worker: at start, with each policy, when one of the bridges changes, and when everything is looked at.

    `on_change` is called when what cannot be done is another than before.
    """

    def __init__(self, host: Host, on_change: Callable[[], None] = lambda: None) -> None:
        self.host, self.on_change = host, on_change
        self.worker_calls = WorkerCalls()
        self.found = BridgesFound()
        self._policy = Policy()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    def set_policy(self, policy: Policy) -> None:
        had, self._policy = self._policy.bridge, policy
        if had:
            self.consider_soon()
        self.look()

    def look(self) -> None:
        """Where there is, or is to be, a bridge at all: an event of it may have been lost."""
        if self._policy.bridge or self.found.problems or any(_managed(self.host)):
            self.consider_soon()

    def links_changed(self, ifindexes: set[int]) -> None:
        """Also of a bridge that stays, for its ports' sake, when its rule is gone."""
        if self.found.problems or self.found.ifindexes & ifindexes:
            self.consider_soon()

    def consider_soon(self) -> None:
        self._consider_after(_SOON_S)

    def _consider_after(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer and self._timer.when() > loop.time() + delay_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_later(delay_s, self._consider)

    def _consider(self) -> None:
        self._timer = None
        if self._busy:
            self.consider_soon()
            return
        self._busy, policy, host = True, self._policy, self.host
        self.worker_calls.run(lambda: converge_bridges(policy, host), self._take, _LIMIT_S)

    def _take(self, found: BridgesFound | Outcome) -> None:
        self._busy = False
        if isinstance(found, Outcome):
            found = BridgesFound(problems=(f"cannot look at them: {found.error}",))
            self._consider_after(_AGAIN_S)
        for text in found.done:
            log.info("bridges: %s", text)
        for text in found.problems:
            if text not in self.found.problems:
                log.error("bridges: %s", text)
        before, self.found = self.found, found if found.ifindexes else replace(found, ifindexes=self.found.ifindexes)
        if before.problems != found.problems:
            self.on_change()

    def stop(self) -> None:
        self.worker_calls.stop()
        if self._timer:
            self._timer.cancel()
