# SPDX-License-Identifier: Apache-2.0
"""The policy's bridges: also those without a PF's VLAN interface, and the removal of managed ones without a rule.

The reconcile of a PF creates the bridges of its own VLAN interfaces, so that it need not wait for this. Each accepts
what the other has created.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import DriverState
from vfagent.model.network import HostNetwork, Link
from vfagent.model.pci import PciAddress
from vfagent.plan.network import plan_bridge
from vfagent.plan.network_steps import DeleteLink
from vfagent.plan.steps import Step
from vfagent.plan.vf import Deferred, Planned
from vfagent.policy.host_network import desired_bridge, every_vlan_interface
from vfagent.policy.types import Policy
from vfagent.process.workers import Workers
from vfagent.reconcile.execute import execute
from vfagent.reconcile.observe_autoconf import with_links_autoconf
from vfagent.reconcile.observe_netdevs import NETDEVS, management_of
from vfagent.reconcile.observe_network import is_managed

log = logging.getLogger(__name__)

_SOON_S = 0.2
_LIMIT_S = 60.0
_KIND = "bridges"
_RETRY_S = 10.0  # where the worker failed
_NO_PF = PciAddress("")


@frozen(slots=True)
class BridgeReport:
    """What a reconcile of the bridges did, what it could not do, and the ifindexes of the policy's bridges."""

    done: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    ifindexes: frozenset[int] = frozenset()


Item = Planned | Deferred | str


def plan_bridges(policy: Policy, host: Host) -> tuple[Item, ...]:
    """The steps to the policy's bridges, and to the removal of managed bridges without a rule."""
    links = (host.network.link(rule.name) for rule in policy.bridge)
    network = with_links_autoconf(host, DriverState(), HostNetwork(tuple(link for link in links if link)))
    addresses = ((vlan.address_owner, address) for vlan in every_vlan_interface(policy) for address in vlan.addresses)
    ipv6 = {owner for owner, address in addresses if ":" in address}
    plans = (plan_bridge(desired_bridge(rule), _NO_PF, network, ipv6=rule.name in ipv6) for rule in policy.bridge)
    items = [item for plan in plans for item in plan]
    return (*items, *(_stale(policy, host) if policy.digest else ()))


def _stale(policy: Policy, host: Host) -> Iterator[Item]:
    wanted = {rule.name for rule in policy.bridge}
    moving = {address for vlan_interface in every_vlan_interface(policy) for address in vlan_interface.addresses}
    moving |= {borrowed.address for borrowed in host.moves.borrowed()}
    for name in _managed(host):
        if name not in wanted and (link := host.network.link(name)):
            yield _removal(link, moving, host)


def _managed(host: Host) -> Iterator[str]:
    """The bridges that vfagent created. By sysfs alone, which the event loop may read."""
    bridges = (name for name in host.sysfs.names(NETDEVS) if host.sysfs.exists(f"{NETDEVS}/{name}/bridge"))
    return (name for name in bridges if is_managed(host, name))


def _removal(link: Link, moving: set[str], host: Host) -> Item:
    """Deferred until its ports have left, and the PFs' reconciles have moved the addresses that other links get."""
    step, reason = DeleteLink(_NO_PF, link.name, link.ifindex), "not in the policy"
    ports = host.sysfs.names(f"{NETDEVS}/{link.name}/brif")
    if ports:
        return Deferred(step, reason, f"it still has ports: {', '.join(ports)}")
    addresses = (address.text for address in host.network.addresses().get(link.ifindex, ()))
    if staying := [address for address in addresses if address in moving]:
        return Deferred(step, reason, f"it still has addresses: {', '.join(staying)}")
    management = management_of(host, link.name)
    return Deferred(step, reason, f"{link.name} {management}") if management else Planned(step, reason)


def converge_bridges(policy: Policy, host: Host) -> BridgeReport:
    done, problems = list[str](), list[str]()
    for item in plan_bridges(policy, host):
        match item:
            case Planned():
                try:
                    refused = execute(item.step, host).unsupported
                    (problems if refused else done).append(_outcome(item.step, refused=bool(refused)))
                except VfagentError as error:
                    problems.append(f"{error} ({error.hint})" if error.hint else str(error))
            case Deferred():
                problems.append(f"{item.step.describe()} is deferred: {item.blocker}")
            case _:
                problems.append(item)
    links = (host.network.link(rule.name) for rule in policy.bridge)
    return BridgeReport(tuple(done), tuple(problems), frozenset(link.ifindex for link in links if link))


def _outcome(step: Step, *, refused: bool) -> str:
    return f"cannot {step.describe()}: it is read-only here" if refused else step.describe()


class HostBridges:
    """Reconciles the bridges in a worker: after each load of the policy, when one changes, and with everything else.

    `on_change` is called after each reconcile. `report` is the last one.
    """

    def __init__(self, host: Host, workers: Workers, on_change: Callable[[], None] = lambda: None) -> None:
        self.host, self.workers, self.on_change = host, workers, on_change
        self.report = BridgeReport()
        self._policy = Policy()
        self._timer: asyncio.TimerHandle | None = None
        self._retrying = False  # what the timer is for
        self._reconciling: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """A retry of a worker that failed comes later. Also read in workers, which have no event loop."""
        running = self._reconciling is not None and not self._reconciling.done()
        return not running and (self._timer is None or self._retrying)

    def set_policy(self, policy: Policy) -> None:
        had_rules, self._policy = self._policy.bridge, policy
        if had_rules:
            self._reconcile_after(_SOON_S)
        self.reconcile_soon()

    def reconcile_soon(self) -> None:
        """Where the policy or the host has a bridge at all. An event of it may have been lost."""
        if self._policy.bridge or self.report.problems or any(_managed(self.host)):
            self._reconcile_after(_SOON_S)

    def links_changed(self, ifindexes: set[int]) -> None:
        """With problems, any link counts: a bridge without a rule stays until its ports have left."""
        if self.report.problems or self.report.ifindexes & ifindexes:
            self._reconcile_after(_SOON_S)

    def _reconcile_after(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer and self._timer.when() > loop.time() + delay_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer, self._retrying = loop.call_later(delay_s, self._reconcile), delay_s > _SOON_S

    def _reconcile(self) -> None:
        self._timer = None
        running = self._reconciling is not None and not self._reconciling.done()
        if running or self.workers.hangs(_KIND):
            self._reconcile_after(_SOON_S)
        else:
            self._reconciling = asyncio.create_task(self._converge())

    async def _converge(self) -> None:
        converge = partial(converge_bridges, self._policy, self.host)
        try:
            result = await self.workers.call(converge, deadline_s=_LIMIT_S, kind=_KIND)
        except VfagentError as error:
            self._reconcile_after(_RETRY_S)
            result = BridgeReport(problems=(f"reconcile failed: {error}",))
        self._finish(result)
        asyncio.get_running_loop().call_soon(self.on_change)  # when this task is done

    def _finish(self, result: BridgeReport) -> None:
        before = self.report
        for text in result.done:
            log.info("bridges: %s", text)
        for text in result.problems:
            if text not in before.problems:
                log.error("bridges: %s", text)
        self.report = result if result.ifindexes else replace(result, ifindexes=before.ifindexes)

    async def stop(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._reconciling and not self._reconciling.done():
            self._reconciling.cancel()
            await asyncio.wait({self._reconciling})
