# SPDX-License-Identifier: Apache-2.0
"""Steps into effects. Each checks what it must not break at the last moment, acts, and reads back."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import NoReturn

from vfagent.advice import explain
from vfagent.errors import FewerError, RefusedError, StepError, errno_text
from vfagent.execute_network import execute_network
from vfagent.host.host import Host
from vfagent.model.inventory import VFIO_DRIVER, pf_in_use, vf_in_use
from vfagent.model.memory import StepResult
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute, VfSettings, VlanProtocol
from vfagent.observe import DEVICES, observe_pf, observe_vf, observe_vf_use
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
)

DONE = StepResult()


def execute(step: Step, host: Host, *, force: bool = False) -> StepResult:
    """Carry out one step. `force` skips the last look for users of a VF. Raises StepError, RefusedError."""
    match step:
        case SetAutoprobe():
            _write(host, step, f"{DEVICES}/{step.pf}/sriov_drivers_autoprobe", str(int(step.on)))
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
            _bind_any(step, host, force=force)
        case UnbindDriver():
            _leave_driver(step, host, force=force)
        case _:
            return execute_network(step, host, force=force)
    return DONE


def _write(host: Host, step: Step, path: str, text: str) -> None:
    try:
        host.sysfs.write(path, text)
    except OSError as error:
        _fail(step, error.errno or 0)


def _link(step: Step, request: Callable[[], None]) -> None:
    try:
        request()
    except OSError as error:
        _fail(step, error.errno or 0)


def _fail(step: Step, number: int) -> NoReturn:
    cause, hint, retryable = explain(step, number)
    text = f"{step.pf}: cannot {step.describe()}: {errno_text(number)}{cause}"
    raise StepError(text, errno=number, hint=hint, retryable=retryable)


def _count_vfs(host: Host, pf: PciAddress) -> int:
    return sum(1 for name in host.sysfs.names(f"{DEVICES}/{pf}") if name.startswith("virtfn"))


def _bind_any(step: BindDriver, host: Host, *, force: bool) -> None:
    if step.address is None:
        _bind_new(step, host)
    else:
        _bind(step, host, force=force)


def _bind_new(step: BindDriver, host: Host) -> None:
    """Of a VF that was made after it was planned. One that vfio could not give to a guest is left to the next look,
    which knows all of its IOMMU group and says what is in the way."""
    address = host.sysfs.link(f"{DEVICES}/{step.pf}/virtfn{step.index}")
    if address is None:
        _fail(step, errno.ENODEV)
    if step.driver == VFIO_DRIVER and not _alone_in_group(host, step, address):
        return
    _bind(replace(step, address=PciAddress(address)), host, force=False)


def _alone_in_group(host: Host, step: BindDriver, address: str) -> bool:
    """In an IOMMU group in which nothing is in vfio's way."""
    if host.sysfs.names(f"{DEVICES}/{address}/iommu_group/devices") == [address]:
        return True
    vf = observe_vf(host, step.pf, step.index)
    return vf is not None and vf.iommu_group is not None and not vf.group_blockers


def _set_numvfs(step: SetNumvfs, host: Host, *, force: bool) -> None:
    # A guest may have opened a VF since the plan was made. The kernel would make this write wait for it, unkillable.
    found = _count_vfs(host, step.pf)
    if found and not force:
        _guard_all(step, host)
    if found == step.count:
        return
    if found and step.count:
        _fail(step, errno.EBUSY)  # as the kernel would; 0 between the two is another plan
    _write(host, step, f"{DEVICES}/{step.pf}/sriov_numvfs", str(step.count))
    made = _count_vfs(host, step.pf)
    if made != step.count:
        _told_otherwise(step, found, made)


def _told_otherwise(step: SetNumvfs, found: int, made: int) -> NoReturn:
    """Written without an error, and not done: bnxt_sriov_configure answers 0 while its port is down or in a reset, and
    cuts the count to the rings it has."""
    if made == found or made >= step.count:
        text = f"{step.pf}: cannot {step.describe()}: the driver said yes, and there are {made}"
        raise StepError(text, hint=f"journalctl -k -g {step.pf} may say why: the port is down, or in a reset")
    hint = "its firmware or configuration allows no more; ask for what it gives"
    raise FewerError(f"{step.pf}: cannot {step.describe()}: the driver made {made}", made=made, hint=hint)


def _guard_all(step: SetNumvfs, host: Host) -> None:
    pf = observe_pf(host, step.pf)
    if pf and (used := pf_in_use(pf)):
        raise RefusedError(f"{step.pf}: cannot {step.describe()}: {'; '.join(used)}")


def _guard_port(step: SetMtu | SetAdminState, host: Host, *, force: bool) -> None:
    pf = observe_pf(host, step.pf)
    if pf is None:
        _fail(step, errno.ENODEV)
    harmless = isinstance(step, SetMtu) and not quirks_of(pf.driver).mtu_resets_vfs
    if not (force or harmless) and (used := pf_in_use(pf)):
        raise RefusedError(f"{step.pf}: cannot {step.describe()}: {'; '.join(used)}")


def _guard_settings(step: ConfigureVf, host: Host, *, force: bool) -> None:
    """As the plan does, but a VF that shows no netdev is one that our own bind has not finished with."""
    disturbing = quirks_of(host.sysfs.link(f"{DEVICES}/{step.pf}/driver")).disturbing
    if force or not any(name in disturbing for name, _ in _parts(step.settings)):
        return
    vf = observe_vf_use(host, step.pf, step.index)
    if vf and (why := vf_in_use(vf, nic=False)):
        raise RefusedError(f"{step.pf}/vf{step.index}: cannot {step.describe()}: {why}")


def configure_together(steps: tuple[ConfigureVf, ...], host: Host) -> bool:
    """Several VFs of one PF in one message. False where each has to be set alone, to know what is refused and why."""
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
            _fail(step, error.errno)
    return _configure_singly(step, host)


def _configure_singly(step: ConfigureVf, host: Host) -> StepResult:
    applied, unsupported, failed = VfSettings(), set[Attribute](), list[tuple[ConfigureVf, int]]()
    quirks = quirks_of(host.sysfs.link(f"{DEVICES}/{step.pf}/driver"))
    for name, part in _parts(step.settings):
        single = replace(step, settings=part)
        number = _try(host, single)
        if number and (missing := _unsupported(Attribute(name), part, number, quirks)):
            unsupported.add(missing)
        elif number:
            failed.append((single, number))
        else:
            applied = replace(applied, **{name: getattr(part, name)})
    if failed:
        _fail(*failed[0])
    return StepResult(frozenset(unsupported), applied)


def _parts(settings: VfSettings) -> Iterator[tuple[str, VfSettings]]:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value is not None:
            yield field.name, VfSettings(**{field.name: value})


def _try(host: Host, step: ConfigureVf) -> int:
    try:
        host.rtnl.set_vfs(step.ifindex, {step.index: step.settings})
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _unsupported(attribute: Attribute, part: VfSettings, number: int, quirks: Quirks) -> Attribute | None:
    """What the driver was found unable to do, where its answer means that."""
    match attribute, number:
        case Attribute.VLAN, errno.EPROTONOSUPPORT if part.vlan and part.vlan.protocol is not VlanProtocol.DOT1Q:
            return Attribute.VLAN_PROTOCOL
        case Attribute.RATE, errno.EINVAL if part.rate and part.rate.min_mbit and not quirks.min_tx_rate:
            return Attribute.MIN_TX_RATE
        case _, errno.EOPNOTSUPP | errno.EPROTONOSUPPORT:
            return attribute
        case _:
            return None


def _guard_vf(step: BindDriver | UnbindDriver, host: Host, *, force: bool) -> None:
    """Nothing but a VF of this PF, and one that nobody uses, is ever taken from its driver."""
    if host.sysfs.link(f"{DEVICES}/{step.address}/physfn") != step.pf:
        _fail(step, errno.ENODEV)
    pf = observe_pf(host, step.pf)
    vf = next((vf for vf in pf.vfs if vf.index == step.index), None) if pf else None
    if pf is None or vf is None or vf.address != step.address:
        _fail(step, errno.ENODEV)
    if not force and (why := vf_in_use(vf, nic=pf.is_nic)):
        raise RefusedError(f"{step.pf}/vf{step.index}: cannot {step.describe()}: {why}")


def _bind(step: BindDriver, host: Host, *, force: bool) -> None:
    base = f"{DEVICES}/{step.address}"
    bound = host.sysfs.link(f"{base}/driver")
    if bound is not None or host.sysfs.link(f"{base}/physfn") != step.pf:
        _guard_vf(step, host, force=force)
    # An override of "\n" clears it; an empty write would not reach the kernel at all.
    _write(host, step, f"{base}/driver_override", f"{step.driver or ''}\n")
    wrong = bound != step.driver if step.driver else bound == VFIO_DRIVER
    if bound is not None and wrong:
        _write(host, step, f"{base}/driver/unbind", str(step.address))
    if step.driver is None:
        _probe_host_driver(step, host)
    else:
        _write(host, step, "sys/bus/pci/drivers_probe", str(step.address))
    # drivers_probe reports success also when no driver took the device.
    now = host.sysfs.link(f"{base}/driver")
    if now is None or (step.driver is not None and now != step.driver):
        _explain_unbound(step, host, now)


def _probe_host_driver(step: BindDriver, host: Host) -> None:
    """Without an override a VF is probed only while its PF's autoprobe is on (pci_device_can_probe)."""
    autoprobe = f"{DEVICES}/{step.pf}/sriov_drivers_autoprobe"
    before = host.sysfs.read(autoprobe)
    if before == "0":
        _write(host, step, autoprobe, "1")
    try:
        _write(host, step, "sys/bus/pci/drivers_probe", str(step.address))
    finally:
        if before == "0":
            _write(host, step, autoprobe, "0")


def _explain_unbound(step: BindDriver, host: Host, now: str | None) -> NoReturn:
    text = f"{step.pf}: cannot {step.describe()}: it is bound to {now or 'nothing'} afterwards"
    if step.driver and not host.sysfs.exists(f"sys/bus/pci/drivers/{step.driver}"):
        raise StepError(f"{text}: no driver {step.driver} is loaded", hint=f"modprobe {step.driver}")
    if not host.sysfs.exists(f"{DEVICES}/{step.address}/vendor"):
        _fail(step, errno.ENODEV)
    if host.sysfs.link(f"{DEVICES}/{step.address}/iommu_group") is None:
        raise StepError(
            f"{text}: it has no IOMMU group",
            hint="turn the IOMMU on in the firmware, and boot with intel_iommu=on or amd_iommu=on",
            retryable=False,
        )
    raise StepError(
        text, hint="the kernel log says why the driver's probe failed: journalctl -k -g " + str(step.address)
    )


def _leave_driver(step: UnbindDriver, host: Host, *, force: bool) -> None:
    _guard_vf(step, host, force=force)
    base = f"{DEVICES}/{step.address}"
    _write(host, step, f"{base}/driver_override", "\n")
    if host.sysfs.link(f"{base}/driver"):
        _write(host, step, f"{base}/driver/unbind", str(step.address))
