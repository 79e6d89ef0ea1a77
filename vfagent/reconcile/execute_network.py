# SPDX-License-Identifier: Apache-2.0
"""Carries out steps on the host's own network. What another worker did in the meantime counts as done."""

import errno
from collections.abc import Callable
from typing import assert_never

from vfagent.errors import UNSUPPORTED, RefusedError, answer_text
from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import StepResult
from vfagent.model.network import HostNetwork, Link
from vfagent.model.vf_settings import Attribute
from vfagent.model.vf_use import pf_in_use
from vfagent.plan.network_steps import (
    AddAddress,
    AddFdb,
    CreateBridge,
    CreateVlan,
    DeleteLink,
    FdbStep,
    LinkStep,
    MarkLink,
    MoveAddresses,
    NetworkStep,
    RemoveAddress,
    RemoveFdb,
    RollBackMove,
    SetAutoconf,
    SetEswitch,
    SetHwmode,
    SetLink,
    SetRepresentor,
)
from vfagent.plan.ports import foreign_owner, no_bridge, receiver_of, stays, would_take
from vfagent.plan.steps import Step
from vfagent.reconcile.execute_autoconf import set_autoconf
from vfagent.reconcile.kernel_errors import explain, fail
from vfagent.reconcile.move_addresses import move_addresses, roll_back
from vfagent.reconcile.observe import observe_pf
from vfagent.reconcile.observe_netdevs import names_above

DONE = StepResult()


def execute_network(step: NetworkStep, host: Host, *, force: bool) -> StepResult:
    """Carry out one step. Raises StepError, RefusedError."""
    match step:
        case AddFdb() | RemoveFdb():
            return _change_fdb(step, host)
        case SetHwmode() | SetEswitch():
            return _switch(step, host, force=force)
        case MoveAddresses():
            move_addresses(step, host)
        case RollBackMove():
            roll_back(step, host)
        case AddAddress() | RemoveAddress():
            _change_address(step, host)
        case SetAutoconf():
            return set_autoconf(step, host)
        case _:
            _change_link(step, host)
    return DONE


def _ask(step: Step, request: Callable[[], None], *, harmless: tuple[int, ...] = ()) -> None:
    try:
        request()
    except OSError as error:
        if error.errno not in harmless:
            fail(step, error)


def _change_link(step: LinkStep, host: Host) -> None:
    network = host.network
    match step:
        case CreateVlan():
            _refuse_on_a_port(step, host)
            _create(step, host, lambda: network.add_vlan(step.name, step.ifindex, step.tag))
        case CreateBridge():
            _create(step, host, lambda: network.add_bridge(step.name))
        case MarkLink():
            _mark(step, host)
        case DeleteLink():
            link = host.network.link(step.name)
            if link and link.ifindex == step.ifindex and _managed(step, link):
                _refuse_if_taken(step, link, step.leaves, host)
                _ask(step, lambda: network.delete(step.ifindex), harmless=(errno.ENODEV,))
        case SetLink():
            _set_link(step, _managed(step, _present(step, step.name, step.ifindex, host)), host)
        case SetRepresentor():
            _set_link(step, _present(step, step.name, step.ifindex, host), host)
        case _:
            assert_never(step)


def _create(step: CreateVlan | CreateBridge, host: Host, request: Callable[[], None]) -> None:
    """EEXIST is harmless where it was made meanwhile; not where that VLAN is on the PF by another name."""
    try:
        request()
    except OSError as error:
        if error.errno != errno.EEXIST or (link := host.network.link(step.name)) is None:
            fail(step, error)
        if link.name != step.name:
            text = f"{step.name} is an alternative name of {link.name}"
            raise RefusedError(f"{step.pf}: cannot {step.describe()}: {text}") from error
    _mark(step, host)


def _refuse_on_a_port(step: CreateVlan, host: Host) -> None:
    """The interface may have become a port since it was observed."""
    port = host.network.link(step.ifindex)
    if port is None:
        return  # the kernel's own answer names it
    master = host.network.link(port.master) if port.master else None
    above = (master, *(host.network.link(name) for name in names_above(host, port.name)))
    network = HostNetwork(links=tuple(link for link in above if link))
    if receiver := receiver_of(port.ifindex, master.name if master else None, network):
        text = would_take(port.name, step.tag, receiver)
        raise RefusedError(f"{step.pf}: cannot {step.describe()}: {text}")


def _mark(step: CreateVlan | CreateBridge | MarkLink, host: Host) -> None:
    """Only what this or an earlier vfagent has just made: another program may have taken the name meanwhile."""
    link = host.network.link(step.name)
    if link is not None and link.unmarked:
        _ask(step, lambda: host.network.mark(link.ifindex), harmless=(errno.ENODEV,))


def _present(step: Step, name: str, ifindex: int | None, host: Host) -> Link:
    link = host.network.link(name)
    if link is None or ifindex not in (None, link.ifindex):
        fail(step, errno.ENODEV)
    return link


def _managed(step: Step, link: Link) -> Link:
    if not link.managed:
        raise RefusedError(f"{step.pf}: cannot {step.describe()}: {link.name} is foreign by now")
    return link


def _set_link(step: SetLink | SetRepresentor, link: Link, host: Host) -> None:
    change, master = step.change, None
    if change.bridge is not None:
        bridge = host.network.link(change.bridge) if change.bridge else None
        if change.bridge and bridge is None:
            fail(step, errno.ENODEV)
        if bridge and bridge.kind != "bridge":
            raise RefusedError(f"{step.pf}: cannot {step.describe()}: {no_bridge(bridge)}")
        master = bridge.ifindex if bridge else 0
        if master != link.master:
            _refuse_if_taken(step, link, step.leaves, host)
    if change.vlan_filtering is not None:
        on = change.vlan_filtering
        _ask(step, lambda: host.network.set_vlan_filtering(link.ifindex, on=on))
    if (change.mtu, change.up, master) != (None, None, None):
        _ask(step, lambda: host.network.set_link(link.ifindex, mtu=change.mtu, up=change.up, master=master))


def _refuse_if_taken(step: Step, link: Link, leaves: str | None, host: Host) -> None:
    """Another program may have made it a port since it was observed: of a bond, say, or of Open vSwitch."""
    master = host.network.link(link.master) if link.master else None
    known = frozenset({(link.name, leaves)}) if leaves else frozenset[tuple[str, str]]()
    if owner := foreign_owner(link.name, master, known):
        raise RefusedError(f"{step.pf}: cannot {step.describe()}: {stays(link.name, owner)}")


def _change_address(step: AddAddress | RemoveAddress, host: Host) -> None:
    link = _present(step, step.name, None, host)
    if isinstance(step, AddAddress):
        _ask(step, lambda: host.network.add_address(link.ifindex, step.address), harmless=(errno.EEXIST,))
    else:
        gone = (errno.EADDRNOTAVAIL, errno.ENODEV)
        _ask(step, lambda: host.network.remove_address(link.ifindex, step.address), harmless=gone)


def _change_fdb(step: FdbStep, host: Host) -> StepResult:
    try:
        if isinstance(step, AddFdb):
            host.network.add_fdb(step.ifindex, step.mac)
        else:
            host.network.remove_fdb(step.ifindex, step.mac)
    except OSError as error:
        return _fdb_answer(step, error)
    return DONE


def _fdb_answer(step: FdbStep, error: OSError) -> StepResult:
    """What a refusal means. It is no failure: guests come and go, and with them what the card is asked for."""
    match step, error.errno:
        case (AddFdb(), errno.EEXIST) | (RemoveFdb(), errno.ENOENT):
            return DONE
        case AddFdb(), errno.ENOMEM | errno.ENOSPC:
            return StepResult(full=True)  # ixgbe: no receive addresses are left
        case AddFdb(), _ if error.errno in UNSUPPORTED:
            return StepResult(unsupported={Attribute.FDB: answer_text(error)})
        case _:
            cause, *_ = explain(step, error.errno or 0)
            return StepResult(fdb_refusal=f"{answer_text(error)}{cause}")


def _switch(step: SetHwmode | SetEswitch, host: Host, *, force: bool) -> StepResult:
    pf = observe_pf(host, step.pf)
    if pf is None:
        fail(step, errno.ENODEV)
    if not force and (used := pf_in_use(pf)):
        raise RefusedError(f"{step.pf}: cannot {step.describe()}: {'; '.join(used)}")
    # mlx5 before its fix follows a null pointer when the mode is set on a card that has no VFs.
    if isinstance(step, SetHwmode) and not pf.vfs:
        raise RefusedError(f"{step.pf}: cannot {step.describe()}: it has no VFs by now")
    try:
        if isinstance(step, SetHwmode):
            host.network.set_hwmode(step.ifindex, step.mode)
        else:
            host.devlink.set_eswitch_mode(step.pf, step.mode)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            fail(step, error)
        missing = Attribute.HWMODE if isinstance(step, SetHwmode) else Attribute.ESWITCH
        return StepResult(unsupported={missing: answer_text(error)})
    return DONE
