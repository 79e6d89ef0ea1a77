# SPDX-License-Identifier: Apache-2.0
"""How many VFs the driver makes, where that is known to be another number than the policy asks for, and which the
kernel cannot make any more. Pure."""

from collections.abc import Iterator

from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.vf_parameters import MADE_AT_LOAD, MadeAtLoad
from vfagent.plan.quirks import accepted_count, quirks_of
from vfagent.plan.vf import Problem


def other_count(desired: DesiredPf, pf: Pf, driver_state: DriverState) -> tuple[int, Problem] | None:
    """The number of VFs that there will be, and why it is not the rule's."""
    made = MADE_AT_LOAD.get(pf.driver or "")
    if made and desired.numvfs not in (None, len(pf.vfs)):
        return len(pf.vfs), Problem(_made_at_load(desired, pf, made))
    if problem := _unchangeable(desired, pf):
        return len(pf.vfs), problem
    return _by_experience(desired, pf, driver_state)


def _made_at_load(desired: DesiredPf, pf: Pf, made: MadeAtLoad) -> str:
    asked, present = desired.numvfs or 0, len(pf.vfs)
    text = (
        f"rule {desired.rule!r} asks for {asked} VFs, there are {present}: {pf.driver} makes VFs only when it is loaded"
    )
    if made.parameter is None:
        return f"{text}, as many as {made.source}: ask for vfs = {present}"
    line = f"`{made.options(asked)}` in /etc/modprobe.d/{made.module}.conf"
    return f"{text}, as many as its parameter {made.parameter} says: {line}, update-initramfs -u, and reboot"


def gone_vfs(pf: Pf) -> Iterator[Problem]:
    """VFs whose device left the bus without their PF, as where the platform isolates a function that failed: a VF
    has no `remove` file (pci_dev_hp_attrs_are_visible()). pci_iov_remove_virtfn() returns without the device before it
    removes the link virtfnN, so that pci_iov_add_virtfn() can make no such VF again, and no rescan finds one."""
    for vf in pf.vfs:
        if vf.gone:
            yield Problem(f"its device {vf.address} was removed from the PCI bus: {how_back(pf)}", vf.index)


def how_back(pf: Pf) -> str:
    """Without VFs: some kernels never end the removal of a PF that has some (vfagent/model/numvfs_lock.py)."""
    base = f"/sys/bus/pci/devices/{pf.address}"
    return (
        "the kernel makes it anew only with its PF; once the VFs are idle: "
        f"echo 0 >{base}/sriov_numvfs, echo 1 >{base}/remove, echo 1 >/sys/bus/pci/rescan; or reboot"
    )


def _unchangeable(desired: DesiredPf, pf: Pf) -> Problem | None:
    """The kernel would remove all VFs and, at the link of the one that is gone, fail to make any (EEXIST)."""
    gone = [vf.index for vf in pf.vfs if vf.gone]
    if not gone or desired.numvfs in (None, len(pf.vfs)) or (desired.numvfs == 0 and len(gone) < len(pf.vfs)):
        return None
    text = f"rule {desired.rule!r} asks for {desired.numvfs} VFs, there are {len(pf.vfs) - len(gone)}"
    return Problem(f"{text}; the number cannot be changed while VF {gone[0]} is gone from the PCI bus")


def _by_experience(desired: DesiredPf, pf: Pf, driver_state: DriverState) -> tuple[int, Problem] | None:
    """VFs that the policy does not ask for are there and left alone: to remove all and ask again would give as many."""
    asked, most = desired.numvfs, driver_state.most_vfs
    if not asked:
        return None
    if most is not None and asked > most:
        text = f"the driver creates only {most} of the {asked} VFs that rule {desired.rule!r} asks for"
        return most, Problem(text)
    if other := accepted_count(asked, pf.driver, pf.totalvfs):
        text = (
            f"driver {pf.driver} cannot make {asked} VFs, which rule {desired.rule!r} asks for: ask for vfs = {other}"
        )
        return other, Problem(text)
    least = pf.totalvfs if quirks_of(pf.driver).all_or_none else driver_state.least_vfs
    if least is None or asked >= least:
        return None
    ask = '"max"' if least == pf.totalvfs else least
    text = f"driver {pf.driver} makes {least} VFs where rule {desired.rule!r} asks for {asked}: ask for vfs = {ask}"
    return least, Problem(text)
