# SPDX-License-Identifier: Apache-2.0
"""Writes to sysfs, what the kernel's errno means at each step, and what to do about it."""

import errno
from typing import NoReturn, assert_never

from vfagent.errors import ENOTSUPP, StepError, answer_text, errno_text
from vfagent.kernel.protocols import Host
from vfagent.plan.network_steps import (
    AddAddress,
    AddFdb,
    CreateBridge,
    CreateVlan,
    DeleteLink,
    MarkLink,
    MoveAddresses,
    RemoveAddress,
    RemoveFdb,
    RollBackMove,
    SetAutoconf,
    SetEswitch,
    SetHwmode,
    SetLink,
    SetRepresentor,
)
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

Advice = tuple[str, str | None, bool]
"""A cause to add to the message, a hint, and whether trying again can help."""

_DOCTOR = "vfagent doctor shows whether the IOMMU, the group or the module blocks it"

_NUMVFS: dict[int, Advice] = {
    # sriov_numvfs_store; ice_check_sriov_allowed, ionic_sriov_configure, virtio_pci_sriov_configure; adf_dev_in_use
    errno.EBUSY: (
        ": VFs exist already, created meanwhile by another program, or the driver is busy",
        "journalctl -k says which: a reset (ice, ionic, qlcnic), a device that has not started (virtio), "
        "an accelerator that somebody uses (QAT, hisi_zip)",
        True,
    ),
    errno.ERANGE: (": more than the card's totalvfs", "raise the number of VFs in the card's firmware", False),
    errno.ENOENT: (
        ": the PF has no driver, or one that makes no VFs by sriov_numvfs (it has no sriov_configure)",
        "load the PF's driver, or a newer one; modinfo -p shows whether a parameter makes its VFs",
        True,
    ),
    errno.EPERM: (
        ": more than the driver allows in its present configuration",  # the other cause is Xen's pci_vfs_assigned()
        "journalctl -k names the driver's limit (i40e: its resources; ixgbe: its traffic classes; igb: MSI-X)",
        True,
    ),
    errno.EAGAIN: (": the driver is busy with a reset", None, True),
    # ice_check_sriov_allowed, ice_pci_sriov_ena, idpf_sriov_configure, qed_sriov_configure, efx_pci_sriov_configure
    errno.EOPNOTSUPP: (
        ": the card or its firmware has no SR-IOV now, or fewer VFs",
        "journalctl -k names the cause: SR-IOV off in the firmware, ice's safe mode, the driver's limit",
        True,
    ),
    # cxgb4_iov_configure, and no other driver
    ENOTSUPP: (
        ": the port above the card has no ARI, without which its VFs cannot be reached",
        "enable ARI in the host's firmware, or use another slot",
        False,
    ),
    errno.EIO: (
        ": the card's SR-IOV capability contradicts itself, or the card has no MSI-X (qlcnic)",
        "update the card's firmware; do not boot with pci=nomsi",
        False,
    ),
    errno.EFAULT: (": the accelerator did not start (QAT)", "journalctl -k says why, such as absent firmware", True),
    errno.ENOMEM: (
        ": no room for the VFs in the bridge's memory window or bus range",
        "boot with pci=realloc, or pci=assign-busses; enable 'above 4G decoding' and SR-IOV in the firmware; "
        "vfagent doctor shows which of the two is missing",
        False,
    ),
    errno.ENOSPC: (
        ": the card has not enough MSI-X vectors or queues",
        "ask for fewer VFs, or take vectors from the PF (devlink resource, ethtool -L, no RDMA)",
        False,
    ),
    errno.ENODEV: (": the device is gone, or its firmware has SR-IOV switched off", "vfagent doctor shows which", True),
    errno.EINVAL: (
        ": the driver does not take this count now",
        "journalctl -k may say why: the driver's own limit, a port that is down, an XDP program (ixgbe)",
        True,
    ),
    errno.EROFS: (": sysfs is read-only here", "the unit needs ReadWritePaths=/sys/devices /sys/bus/pci", False),
}

_DRIVER: dict[int, Advice] = {
    errno.ENODEV: (": it is no VF of this PF any more, or no driver takes it", _DOCTOR, True),
    errno.EINVAL: (": the driver refused the device", f"{_DOCTOR}; journalctl -k says why", False),
}

_VF: dict[int, Advice] = {
    errno.EINVAL: (": the driver refuses this value", "see the driver's limits: link speed, VLAN range, MAC", True),
    errno.EPERM: (": not allowed on this card", "its firmware may leave this to the card's own management", False),
    errno.EBUSY: (": the driver is busy with a reset", None, True),
    errno.EAGAIN: (": the VF is still in reset", None, True),
}

_LINK: dict[int, Advice] = {
    errno.EEXIST: (": that VLAN is on the PF already, as another device", "ip -d link show type vlan names it", True),
    errno.EOPNOTSUPP: (": this kernel or driver has no such device", "modprobe 8021q; modprobe bridge", False),
    errno.ENODEV: (": it is not there", None, True),
    errno.ENETDOWN: (": the PF is down", None, True),
    errno.ERANGE: (": the MTU is more than the PF's", "mtu in the [[pf]] rule raises the PF's", False),
    errno.EINVAL: (": the kernel refuses the value", "ip -d link tells the limits", False),
    errno.EBUSY: (": it is a port of something else", "ip link shows of what", True),
    errno.ELOOP: (": it is below that bridge already", None, False),
}

_FDB: dict[int, Advice] = {
    errno.EINVAL: (": the driver refuses the entry", "i40e accepts entries only while it has VFs", True),
}

_SWITCH: dict[int, Advice] = {
    errno.EPERM: (": not allowed on this card", "its firmware may keep the switch to itself", False),
    errno.EBUSY: (
        ": the card's switch is in use",
        "take the PF out of bonds and bridges, and delete its tc filters",
        True,
    ),
    errno.EINVAL: (": the driver refuses the mode now", "journalctl -k says why", True),
}


_ANY: dict[int, Advice] = {
    errno.EROFS: (
        ": it is read-only here",
        "in a copy of another host's tree, or in a container, nothing can be set",
        False,
    ),
}


def explain(step: Step, number: int) -> Advice:
    table: dict[int, Advice]
    match step:
        case SetNumvfs():
            table = _NUMVFS
        case BindDriver() | UnbindDriver():
            table = _DRIVER
        case ConfigureVf():
            table = _VF
        case SetMtu() if number in (errno.EINVAL, errno.ERANGE):
            return ": outside of what the card can do", "ip -d link shows its maxmtu", False
        case CreateVlan() | CreateBridge() | SetLink() | SetRepresentor() | DeleteLink():
            table = _LINK
        case AddFdb() | RemoveFdb():
            table = _FDB
        case SetHwmode() | SetEswitch():
            table = _SWITCH
        case (
            SetAutoprobe() | SetAdminState() | SetMtu() | MarkLink() | SetAutoconf()
            | AddAddress() | RemoveAddress() | MoveAddresses() | RollBackMove()
        ):  # fmt: skip
            table = {}
        case _:
            assert_never(step)
    return table.get(number) or _ANY.get(number, ("", None, True))


def write(host: Host, step: Step, path: str, text: str) -> None:
    try:
        host.sysfs.write(path, text)
    except OSError as error:
        fail(step, error)


def fail(step: Step, answer: int | OSError) -> NoReturn:
    """Steps for the host's own network have no PF."""
    number = answer if isinstance(answer, int) else answer.errno or 0
    cause, hint, retryable = explain(step, number)
    words = errno_text(number) if isinstance(answer, int) else answer_text(answer)
    text = f"{step.pf}: cannot {step.describe()}: {words}{cause}"
    raise StepError(text.removeprefix(": "), errno=number, hint=hint, retryable=retryable)
