# SPDX-License-Identifier: Apache-2.0
"""Carries out steps. Each checks right before it acts what it must not break, acts, and reads back."""

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from vfagent.errors import UNSUPPORTED, RefusedError, StepError, WrongCountError, answer_text
from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import StepResult
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute, Rate, VfSettings, VlanProtocol
from vfagent.model.vf_use import pf_in_use, vf_use
from vfagent.plan.quirks import Quirks, quirks_of
from vfagent.plan.steps import (
    BindDriver,
    ConfigureVf,
    SetAdminState,
    SetAutoprobe,
    SetMtu,
    SetNumvfs,
    Step,
    UnbindDriver,
    names,
    parts,
)
from vfagent.reconcile.execute_bind import bind, leave_driver
from vfagent.reconcile.execute_network import execute_network
from vfagent.reconcile.kernel_errors import fail, write
from vfagent.reconcile.observe import DEVICES, observe_pf, observe_vf_use

DONE = StepResult()


def execute(step: Step, host: Host, *, force: bool = False) -> StepResult:
    """Carry out one step. `force` skips the last check for users of a VF. Raises StepError, RefusedError."""
    match step:
        case SetAutoprobe():
            write(host, step, f"{DEVICES}/{step.pf}/sriov_drivers_autoprobe", str(int(step.on)))
        case SetNumvfs():
            _set_numvfs(step, host, force=force)
        case SetMtu():
            _guard_port(step, host, force=force)
            _link(step, lambda: host.rtnl.set_mtu(step.ifindex, step.mtu))
        case SetAdminState():
            if not step.up:
                _guard_port(step, host, force=force)
            _link(step, lambda: host.rtnl.set_admin_state(step.ifindex, up=step.up))
        case ConfigureVf():
            _guard_settings(step, host, force=force)
            return _configure_vf(step, host)
        case BindDriver():
            bind(step, host, force=force)
        case UnbindDriver():
            leave_driver(step, host, force=force)
        case _:
            return execute_network(step, host, force=force)
    return DONE


def _link(step: Step, request: Callable[[], None]) -> None:
    try:
        request()
    except OSError as error:
        fail(step, error)


def _count_vfs(host: Host, pf: PciAddress) -> int:
    return sum(1 for name in host.sysfs.names(f"{DEVICES}/{pf}") if name.startswith("virtfn"))


def _set_numvfs(step: SetNumvfs, host: Host, *, force: bool) -> None:
    # A guest may have opened a VF since the plan was made. The kernel would make this write wait for it, unkillable.
    before = _count_vfs(host, step.pf)
    if before and not force:
        _guard_all(step, host)
    if before == step.count:
        return
    if before and step.count:
        fail(step, errno.EBUSY)  # as the kernel would; 0 between the two is another plan
    write(host, step, f"{DEVICES}/{step.pf}/sriov_numvfs", str(step.count))
    made = _count_vfs(host, step.pf)
    if made != step.count:
        _wrong_count(step, before, made)


def _wrong_count(step: SetNumvfs, before: int, made: int) -> NoReturn:
    """The write succeeded without effect: bnxt_sriov_configure answers 0 while its port is down or in a reset, and
    cuts the count to the rings it has. adf_sriov_configure makes all VFs of its card, whatever it is asked for."""
    if made == before or not step.count:
        text = f"{step.pf}: cannot {step.describe()}: the driver reported success, but there are {made}"
        hint = "the port is down, or in a reset; be2net, hns3 and LiquidIO do not pass an error on"
        raise StepError(text, hint=f"journalctl -k -g {step.pf} may say why: {hint}")
    fewer, more = (
        "its firmware or configuration allows no more; ask for what it gives",
        "it makes no fewer; ask for them",
    )
    text = f"{step.pf}: cannot {step.describe()}: the driver made {made}"
    raise WrongCountError(text, made=made, hint=fewer if made < step.count else more)


def _guard_all(step: SetNumvfs, host: Host) -> None:
    pf = observe_pf(host, step.pf)
    if pf and (used := pf_in_use(pf)):
        raise RefusedError(f"{step.pf}: cannot {step.describe()}: {'; '.join(used)}")


def _guard_port(step: SetMtu | SetAdminState, host: Host, *, force: bool) -> None:
    pf = observe_pf(host, step.pf)
    if pf is None:
        fail(step, errno.ENODEV)
    harmless = isinstance(step, SetMtu) and not quirks_of(pf.driver).mtu_resets_vfs
    if not (force or harmless) and (used := pf_in_use(pf)):
        raise RefusedError(f"{step.pf}: cannot {step.describe()}: {'; '.join(used)}")


def _guard_settings(step: ConfigureVf, host: Host, *, force: bool) -> None:
    """As the plan does. But a VF without a netdev is one that our own bind has not finished with."""
    disturbing = quirks_of(host.sysfs.link(f"{DEVICES}/{step.pf}/driver")).disturbing
    if force or not any(name in disturbing for name in names(step.settings)):
        return
    vf = observe_vf_use(host, step.pf, step.index)
    if vf and (use := vf_use(vf, nic=True, assume_idle=True)):
        raise RefusedError(f"{step.pf}/vf{step.index}: cannot {step.describe()}: {use.text}")


def configure_together(steps: tuple[ConfigureVf, ...], host: Host) -> bool:
    """Set several VFs of one PF by one message. False where each has to be set alone."""
    driver = host.sysfs.link(f"{DEVICES}/{steps[0].pf}/driver")
    if quirks_of(driver).settings_before_bind:
        return False  # these wait for a reset of each VF: all in one message would hold the rtnl lock for seconds
    try:
        for step in steps:
            _guard_settings(step, host, force=False)
        host.rtnl.set_vfs(steps[0].ifindex, {step.index: step.settings for step in steps})
    except (OSError, RefusedError):
        return False
    return True


def _configure_vf(step: ConfigureVf, host: Host) -> StepResult:
    """All in one message; where that is refused, one by one, to know which."""
    try:
        host.rtnl.set_vfs(step.ifindex, {step.index: step.settings})
        return StepResult(applied=step.settings)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EPERM):
            fail(step, error)
    return _configure_singly(step, host)


def _configure_singly(step: ConfigureVf, host: Host) -> StepResult:
    applied, unsupported, failed = VfSettings(), dict[Attribute, str](), list[tuple[ConfigureVf, OSError]]()
    quirks = quirks_of(host.sysfs.link(f"{DEVICES}/{step.pf}/driver"))
    for name, part in parts(step.settings):
        single = replace(step, settings=part)
        refusal = _try(host, single)
        if refusal and _minimum_refused(part, refusal.errno, quirks):
            unsupported[Attribute.MIN_TX_RATE] = answer_text(refusal)
            part = VfSettings(rate=Rate(0, part.rate.max_mbit if part.rate else 0))
            single = replace(step, settings=part)
            refusal = _try(host, single)
        if refusal and (missing := _unsupported(Attribute(name), part, refusal.errno)):
            unsupported[missing] = answer_text(refusal)
        elif refusal:
            failed.append((single, refusal))
        else:
            applied = replace(applied, **{name: getattr(part, name)})
    if failed:
        _fail(failed[0], applied)
    return StepResult(unsupported, applied)


def _fail(failed: tuple[ConfigureVf, OSError], applied: VfSettings) -> NoReturn:
    """The first failure, and what was set all the same."""
    try:
        fail(*failed)
    except StepError as error:
        error.done = names(applied)
        raise


def _try(host: Host, step: ConfigureVf) -> OSError | None:
    try:
        host.rtnl.set_vfs(step.ifindex, {step.index: step.settings})
    except OSError as error:
        return error
    return None


def _minimum_refused(part: VfSettings, number: int | None, quirks: Quirks) -> bool:
    """Whether the answer may be about the minimum alone: then the maximum is set without it.

    ice_set_vf_bw refuses a minimum while DCB is on; drivers without minima refuse them with EINVAL (sriov-cni#107).
    """
    without = number in UNSUPPORTED or (number == errno.EINVAL and not quirks.min_tx_rate)
    return without and part.rate is not None and part.rate.min_mbit > 0


def _unsupported(attribute: Attribute, part: VfSettings, number: int | None) -> Attribute | None:
    """The attribute that the driver does not support, if that is what its answer means."""
    foreign = part.vlan is not None and part.vlan.protocol is not VlanProtocol.DOT1Q
    if foreign and number == errno.EPROTONOSUPPORT:
        return Attribute.VLAN_PROTOCOL
    return attribute if number in UNSUPPORTED else None
