# SPDX-License-Identifier: Apache-2.0
"""Binds a VF to its driver, and unbinds it."""

import errno
from dataclasses import replace
from typing import NoReturn

from vfagent.errors import RefusedError, StepError
from vfagent.kernel.protocols import Host
from vfagent.model.evidence import is_vfio, serves_host
from vfagent.model.pci import PciAddress
from vfagent.model.vf_use import vf_in_use
from vfagent.plan.steps import BindDriver, UnbindDriver
from vfagent.reconcile.kernel_errors import fail, write
from vfagent.reconcile.observe import DEVICES, observe_pf, observe_vf

DRIVERS_PROBE = "sys/bus/pci/drivers_probe"
DRIVERS = "sys/bus/pci/drivers"


def bind(step: BindDriver, host: Host, *, force: bool) -> None:
    if step.address is None:
        _bind_new(step, host)
    else:
        _bind(step, host, force=force)


def _bind_new(step: BindDriver, host: Host) -> None:
    """Bind a VF that was made after it was planned. If vfio could not give it to a guest, it is left to the next round,
    which observes its whole IOMMU group and reports the blocker."""
    address = host.sysfs.link(f"{DEVICES}/{step.pf}/virtfn{step.index}")
    if address is None:
        fail(step, errno.ENODEV)
    if is_vfio(step.driver) and not _alone_in_group(host, step, address):
        return
    _bind(replace(step, address=PciAddress(address)), host, force=False)


def _alone_in_group(host: Host, step: BindDriver, address: str) -> bool:
    """Whether nothing in the VF's IOMMU group blocks vfio."""
    if host.sysfs.names(f"{DEVICES}/{address}/iommu_group/devices") == [address]:
        return True
    vf = observe_vf(host, step.pf, step.index)
    return vf is not None and vf.iommu_group is not None and not vf.group_blockers


def _guard_vf(step: BindDriver | UnbindDriver, host: Host, *, force: bool) -> None:
    """Only a VF of this PF that is not in use is ever unbound from its driver."""
    if host.sysfs.link(f"{DEVICES}/{step.address}/physfn") != step.pf:
        fail(step, errno.ENODEV)
    pf = observe_pf(host, step.pf)
    vf = next((vf for vf in pf.vfs if vf.index == step.index), None) if pf else None
    if pf is None or vf is None or vf.address != step.address:
        fail(step, errno.ENODEV)
    if not force and (why := vf_in_use(vf, pf)):
        raise RefusedError(f"{step.pf}/vf{step.index}: cannot {step.describe()}: {why}")


def _bind(step: BindDriver, host: Host, *, force: bool) -> None:
    base = f"{DEVICES}/{step.address}"
    bound = host.sysfs.link(f"{base}/driver")
    if bound is not None or host.sysfs.link(f"{base}/physfn") != step.pf:
        _guard_vf(step, host, force=force)
    _override(step, host)
    vfio_dev = host.sysfs.exists(f"{base}/vfio-dev")
    wrong = bound != step.driver if step.driver else not serves_host(bound, vfio_dev=vfio_dev)
    if bound is not None and wrong:
        write(host, step, f"{base}/driver/unbind", str(step.address))
    if step.driver is None:
        _probe_host_driver(step, host)
    else:
        _probe_override(step, host)
    # drivers_probe reports success also when no driver took the device.
    now = host.sysfs.link(f"{base}/driver")
    if now is None or (step.driver is not None and now != step.driver):
        _explain_unbound(step, host, now)


def _override(step: BindDriver, host: Host) -> None:
    """An override of "\n" clears it; an empty write would not reach the kernel at all."""
    write(host, step, f"{DEVICES}/{step.address}/driver_override", f"{step.driver or ''}\n")


def _probe_override(step: BindDriver, host: Host) -> None:
    """Twice if needed: a driver that is registered meanwhile may have matched the VF before it had its override.

    While that driver is being refused, drivers_probe skips the VF (bus_rescan_devices_helper() in drivers/base/bus.c
    checks for a driver before it takes the device's lock). Writing the override again waits for the lock.
    """
    write(host, step, DRIVERS_PROBE, str(step.address))
    if host.sysfs.link(f"{DEVICES}/{step.address}/driver") != step.driver:
        _override(step, host)
        write(host, step, DRIVERS_PROBE, str(step.address))


def _probe_host_driver(step: BindDriver, host: Host) -> None:
    """Without an override a VF is probed only while its PF's autoprobe is on (pci_device_can_probe)."""
    autoprobe = f"{DEVICES}/{step.pf}/sriov_drivers_autoprobe"
    before = host.sysfs.read(autoprobe)
    if before == "0":
        write(host, step, autoprobe, "1")
    try:
        write(host, step, DRIVERS_PROBE, str(step.address))
    finally:
        if before == "0":
            write(host, step, autoprobe, "0")


def _explain_unbound(step: BindDriver, host: Host, now: str | None) -> NoReturn:
    text = f"{step.pf}: cannot {step.describe()}: it is bound to {now or 'nothing'} afterwards"
    if step.driver and not host.sysfs.exists(f"{DRIVERS}/{step.driver}"):
        raise StepError(f"{text}: no driver {step.driver} is loaded", hint=_other_name(step.driver, host))
    if not host.sysfs.exists(f"{DEVICES}/{step.address}/vendor"):
        fail(step, errno.ENODEV)
    if host.sysfs.link(f"{DEVICES}/{step.address}/iommu_group") is None:
        raise StepError(
            f"{text}: it has no IOMMU group",
            hint="turn the IOMMU on in the firmware, and boot with intel_iommu=on or amd_iommu=on",
            retryable=False,
        )
    raise StepError(
        text, hint="the kernel log says why the driver's probe failed: journalctl -k -g " + str(step.address)
    )


def _other_name(driver: str, host: Host) -> str:
    """A driver may be named otherwise than its module: vp-vdpa of vp_vdpa, hisi-acc-vfio-pci of hisi_acc_vfio_pci."""
    alike = (name for name in host.sysfs.names(DRIVERS) if name.replace("-", "_") == driver.replace("-", "_"))
    if name := next(alike, None):
        return f'driver = "{name}" in the rule: the kernel\'s driver is named so'
    return f"modprobe {driver}"


def leave_driver(step: UnbindDriver, host: Host, *, force: bool) -> None:
    _guard_vf(step, host, force=force)
    base = f"{DEVICES}/{step.address}"
    write(host, step, f"{base}/driver_override", "\n")
    if host.sysfs.link(f"{base}/driver"):
        write(host, step, f"{base}/driver/unbind", str(step.address))
