# SPDX-License-Identifier: Apache-2.0
"""Undoes everything vfagent did to a PF: its VFs as in the baseline, then its port and autoprobe."""

from dataclasses import replace

from vfagent.errors import RefusedError, VfagentError
from vfagent.kernel.protocols import Host
from vfagent.model.desired import DesiredPf, DesiredVf, driver_word
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import GUIDS, TABLE, VfSettings
from vfagent.model.vf_use import pf_in_use
from vfagent.plan.network_steps import SetAutoconf
from vfagent.plan.planner import plan_pf
from vfagent.plan.steps import SetAdminState, SetAutoprobe, SetMtu, SetNumvfs, Step
from vfagent.reconcile.execute import execute
from vfagent.reconcile.numvfs_turn import numvfs_turn
from vfagent.reconcile.observe import observe_pf
from vfagent.reconcile.observe_autoconf import with_autoconf
from vfagent.reconcile.observe_netdevs import with_port
from vfagent.reconcile.observe_network import with_network
from vfagent.reconcile.parallel import run_plan, run_steps
from vfagent.reconcile.reports import Emit, Finished, Observed
from vfagent.reconcile.rounds import MOST_ROUNDS
from vfagent.store.state import Baseline, State


def release(address: PciAddress, host: Host, state: State, emit: Emit, *, force: bool) -> None:
    """Rounds towards the baseline, as towards a policy. Raises RefusedError while a VF is in use, unless forced."""
    pf = _present(address, host)
    baseline = state.baseline(address)
    if baseline is None or not baseline.is_of(pf):
        raise VfagentError(f"{pf.name}: cannot release it: vfagent has not changed it", retryable=False)
    used = pf_in_use(pf)
    if used and not force:
        hint = "stop what uses it, or use --force"
        raise RefusedError(f"{pf.name}: cannot release it: {'; '.join(used)}", hint=hint)
    if used:
        removal = SetNumvfs(address, 0)
        with numvfs_turn(host, removal, emit):
            execute(removal, host, force=True)
    _return_vfs(address, baseline, host, state, emit)
    pf = with_autoconf(host, _present(address, host, baseline), DriverState())
    run_steps(tuple(last_steps(pf, baseline.pf)), host, emit)
    state.forget_baseline(address)
    emit(Finished(DriverState()))


def _present(address: PciAddress, host: Host, baseline: Baseline | None = None) -> Pf:
    """The PF as it is, with the netdev that the baseline has."""
    pf = observe_pf(host, address)
    if pf is None:
        raise VfagentError(f"{address}: there is no such PF", hint="vfagent list shows those that are there")
    return with_port(host, pf, baseline.port(pf)) if baseline else pf


def _return_vfs(address: PciAddress, baseline: Baseline, host: Host, state: State, emit: Emit) -> None:
    known = state.driver_state(address)
    driver_state = DriverState(fdb=known.fdb, joined=known.joined)
    for number in range(1, MOST_ROUNDS + 1):
        desired = as_desired(baseline.pf)
        pf = _with_own_network(host, _present(address, host, baseline), desired, driver_state)
        plan = plan_pf(desired, pf, _of_pf(driver_state, pf))
        emit(Observed(number, pf, desired, plan))
        if plan.deferred:
            raise RefusedError(f"{pf.name}: cannot release it: {plan.deferred[0].blocker}")
        if not plan.steps:
            return
        driver_state, failures = run_plan(plan, host, _of_pf(driver_state, pf), emit)
        if failures:
            raise VfagentError(failures[0].text, hint=failures[0].hint)


def _of_pf(driver_state: DriverState, pf: Pf) -> DriverState:
    return replace(driver_state, driver=pf.driver, ifindex=pf.netdev.ifindex if pf.netdev else None)


def _with_own_network(host: Host, pf: Pf, desired: DesiredPf, driver_state: DriverState) -> Pf:
    """Without moves of addresses, and without the addresses of other interfaces: they may be another PF's."""
    pf = with_network(host, pf, desired, driver_state)
    if pf.network is None or pf.netdev is None:
        return pf
    own = pf.netdev.ifindex
    links = tuple(link if link.lower == own else replace(link, addresses=()) for link in pf.network.links)
    return replace(pf, network=replace(pf.network, moves=(), links=links))


def as_desired(was: Pf) -> DesiredPf:
    """The baseline as something to converge to."""
    vfs = tuple(DesiredVf(vf.index, driver_word(vf), _settable(vf)) for vf in was.vfs)
    return DesiredPf(
        was.address, "baseline", len(was.vfs), None, vfs, allow_management=True, hwmode=was.hwmode, eswitch=was.eswitch
    )


def _settable(vf: Vf) -> VfSettings:
    # A MAC or GUID of zeros means that none was set; drivers refuse it as a value.
    settings = vf.settings or VfSettings()
    unset = (name for name in ("mac", *GUIDS) if getattr(settings, name) == TABLE[name].new)
    return replace(settings, **dict.fromkeys(unset))


def last_steps(pf: Pf, was: Pf) -> list[Step]:
    """What else differs from the baseline. A port that is in use by now stays up."""
    steps: list[Step] = []
    if was.autoprobe is not None and pf.autoprobe != was.autoprobe:
        steps.append(SetAutoprobe(pf.address, on=was.autoprobe))
    if pf.netdev is None or was.netdev is None:
        return steps
    if pf.netdev.mtu != was.netdev.mtu:
        steps.append(SetMtu(pf.address, pf.netdev.ifindex, was.netdev.mtu))
    idle = not (pf.netdev.master or pf.netdev.addressed or pf.netdev.management)
    if pf.netdev.admin_up and not was.netdev.admin_up and idle:
        steps.append(SetAdminState(pf.address, pf.netdev.ifindex, up=False))
    conf = was.netdev.ipv6
    # After the port is down: on one that is up the kernel asks for routers at once (addrconf_init_auto_addrs).
    if conf and pf.netdev.ipv6 == conf.kept_out() != conf:
        steps.append(SetAutoconf(pf.address, pf.netdev.name, pf.netdev.ifindex, conf))
    return steps
