# SPDX-License-Identifier: Apache-2.0
"""The fake kernel has the real one's rules: what it wrongly permits, the other tests would miss."""

import errno
from collections.abc import Callable

import pytest

from tests.model import effects, foreign, never
from tests.model.devices import PfDevice
from tests.model.drivers import BNX2X, IGB, VIRTIO
from tests.model.effects import Effect, Kind
from tests.model.hosts import Port, make_host
from tests.model.kernel import Kernel, KernelHang
from tests.model.process import Process
from vfagent.model.vf_settings import LinkState, Rate, VfSettings, Vlan, VlanProtocol

DEVICE = "sys/bus/pci/devices/0000:10:00.0"


def host_with(port: Port) -> tuple[Kernel, PfDevice]:
    kernel = make_host((port,))
    (pf,) = kernel.present()
    return kernel, pf


def refused(act: Callable[[], None]) -> int:
    with pytest.raises(OSError) as caught:
        act()
    return caught.value.errno or 0


@pytest.mark.parametrize(
    ("port", "text", "number"),
    [
        (Port(vfs=2), "3", errno.EBUSY),
        (Port(totalvfs=4), "5", errno.ERANGE),
        (Port(), "some", errno.EINVAL),
        (Port(), "-1", errno.EINVAL),
        (Port(driverless=True), "1", errno.ENOENT),
        (Port(kind=BNX2X), "1", errno.EINVAL),
    ],
)
def test_sriov_numvfs_refuses(port: Port, text: str, number: int) -> None:
    kernel, pf = host_with(port)
    assert refused(lambda: kernel.write_numvfs(pf, text)) == number


def test_sriov_numvfs_accepts_its_current_value_without_any_change() -> None:
    kernel, pf = host_with(Port(vfs=2))
    before = [id(vf) for vf in pf.vfs]
    kernel.write_numvfs(pf, "2\n")
    assert [id(vf) for vf in pf.vfs] == before


def test_removal_and_unbind_hang_while_a_vf_is_in_use() -> None:
    kernel, pf = host_with(Port(vfs=1, autoprobe=False))
    pf.vfs[0].override = "vfio-pci"
    kernel.probe_address(pf.vfs[0].address)
    foreign.opens_group(pf.vfs[0])
    with pytest.raises(KernelHang):
        kernel.write_numvfs(pf, "0")
    with pytest.raises(KernelHang):
        kernel.unbind(pf.vfs[0])


def test_a_vf_is_probed_with_autoprobe_or_an_override() -> None:
    kernel, pf = host_with(Port(vfs=2, autoprobe=False))
    first, second = pf.vfs
    first.override = "vfio-pci"
    for vf in pf.vfs:
        kernel.probe_address(vf.address)
    assert (first.driver, second.driver) == ("vfio-pci", None)
    pf.autoprobe = True
    kernel.probe_address(second.address)
    assert second.driver == "igbvf"


def test_a_probe_that_binds_no_driver_is_not_an_error() -> None:
    kernel, pf = host_with(Port(vfs=1, autoprobe=False))
    pf.vfs[0].override = "absent"
    kernel.probe_address(pf.vfs[0].address)
    assert pf.vfs[0].driver is None


def test_pci_addresses_of_vfs_change_with_their_count() -> None:
    kernel, pf = host_with(Port(vfs=4, moving=True))
    first = pf.vfs[0].address
    kernel.write_numvfs(pf, "0")
    kernel.write_numvfs(pf, "5")
    assert pf.vfs[0].address != first


@pytest.mark.parametrize(
    ("port", "settings", "number"),
    [
        (Port(IGB, vfs=1), VfSettings(link_state=LinkState.ENABLE), errno.EOPNOTSUPP),
        (Port(IGB, vfs=1, up=True), VfSettings(rate=Rate(1, 2)), errno.EINVAL),
        (Port(IGB, vfs=1), VfSettings(rate=Rate(0, 2)), errno.EINVAL),
        (Port(IGB, vfs=1), VfSettings(vlan=Vlan(1, 0, VlanProtocol.DOT1AD)), errno.EPROTONOSUPPORT),
        (Port(VIRTIO, vfs=1), VfSettings(mac="02:00:00:00:00:01"), errno.EOPNOTSUPP),
    ],
)
def test_unsupported_vf_settings_are_refused(port: Port, settings: VfSettings, number: int) -> None:
    kernel, pf = host_with(port)
    effect = Effect(Kind.VF, pf.address, "", 0, settings)
    assert refused(lambda: effects.carry_out(kernel, effect)) == number


def test_attributes_before_a_refused_one_stay_set() -> None:
    kernel, pf = host_with(Port(IGB, vfs=1))
    settings = VfSettings(vlan=Vlan(5), link_state=LinkState.ENABLE, trust=True)
    refused(lambda: effects.carry_out(kernel, Effect(Kind.VF, pf.address, "", 0, settings)))
    assert (pf.vfs[0].settings.vlan, pf.vfs[0].settings.trust) == (Vlan(5), False)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("sys/bus/pci/drivers/vfio-pci/new_id", "8086 10ca"),
        (f"{DEVICE}/sriov_numvfs", "2"),
        (f"{DEVICE}/sriov_numvfs", "3"),
        ("sys/bus/pci/rescan", "1"),
    ],
)
def test_a_forbidden_write_is_a_violation(path: str, text: str) -> None:
    process = Process(make_host((Port(vfs=2),)))
    with pytest.raises(never.Violation):
        process.host().sysfs.write(path, text)


def test_a_read_of_sriov_numvfs_hangs() -> None:
    with pytest.raises(KernelHang):
        Process(make_host((Port(),))).host().sysfs.read(f"{DEVICE}/sriov_numvfs")


def test_a_change_of_a_pf_that_is_not_reconciled_is_a_violation() -> None:
    kernel = make_host((Port(vfs=1), Port()))
    process = Process(kernel, "0000:10:00.1")
    with pytest.raises(never.Violation, match="no other PF"):
        process.host().rtnl.set_vfs(2, {0: VfSettings(trust=True)})
