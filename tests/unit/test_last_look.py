# SPDX-License-Identifier: Apache-2.0
"""What a step checks right before it acts: since the plan a VF may have been taken, or have gone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.host.fake_kernel import FakeKernel, FakeSysfs
from tests.host.tree import point, put
from vfagent.errors import RefusedError, StepError, VfagentError, WrongCountError
from vfagent.guests import worker_calls
from vfagent.guests.spec.boot import Boot, Loader
from vfagent.kernel.protocols import Host
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.model.guest_unit import GuestVf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.plan.network_steps import SetEswitch, SetHwmode
from vfagent.plan.steps import BindDriver, ConfigureVf, SetAdminState, SetMtu, SetNumvfs, Step, UnbindDriver
from vfagent.policy.guest_rules import DiskRule, GuestRule
from vfagent.reconcile.execute import execute
from vfagent.reconcile.observe import observe_pf

PF, OTHER = PciAddress("0000:01:00.0"), PciAddress("0000:01:00.1")
VF, SECOND = PciAddress("0000:01:10.0"), PciAddress("0000:01:10.1")
IFINDEX = 1


class Card:
    """A PF with two VFs on vfio-pci, and what the kernel is asked for."""

    def __init__(self, root: Path, driver: str = "igb", vfs: int = 2) -> None:
        self.kernel, self.asked = FakeKernel(root), list[Any]()
        self.tree, self.root = self.kernel.tree, root
        self.tree.add_pf(PF, vfs=vfs, interface="ens1", driver=driver)
        for vf in self.tree.vfs(PF):
            self.tree.bind(vf, "vfio-pci")

    @property
    def host(self) -> Host:
        host = self.kernel.host
        return replace(
            host, rtnl=Asked(host.rtnl, self), network=Asked(host.network, self), devlink=Asked(host.devlink, self)
        )

    def changes(self) -> list[Any]:
        return [*self.asked, *((write.device, write.file) for write in self.kernel.writes())]

    def opened(self, vf: str = VF) -> None:
        self.tree.add_device(vf, enable="1")

    def assigned(self) -> None:
        """A guest was started, and its QEMU has not opened the VF yet."""
        put(self.root / "run/vfagent/vf-users" / VF, '"web"')
        (self.root / "sys/fs/cgroup/machine.slice/vfagent-guest-web.service").mkdir(parents=True)


class Asked:
    """An adapter of which the calls that change something are recorded, and not made."""

    def __init__(self, adapter: object, card: Card) -> None:
        self._adapter, self._card = adapter, card

    def __getattr__(self, name: str) -> Any:
        if name.startswith("set_"):
            return lambda *args, **named: self._card.asked.append(name)
        return getattr(self._adapter, name)


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return Card(tmp_path)


STEPS: dict[str, Step] = {
    "count": SetNumvfs(PF, 0),
    "mtu": SetMtu(PF, IFINDEX, 9000),
    "down": SetAdminState(PF, IFINDEX, up=False),
    "vlan": ConfigureVf(PF, IFINDEX, 0, VfSettings(vlan=Vlan(10))),
    "driver": BindDriver(PF, 0, VF, None),
    "no driver": UnbindDriver(PF, 0, VF),
    "hwmode": SetHwmode(PF, IFINDEX, "vepa"),
    "eswitch": SetEswitch(PF, "switchdev"),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_step_on_idle_vfs_is_carried_out(card: Card, step: Step) -> None:
    execute(step, card.host)
    assert card.changes()


@pytest.mark.parametrize(
    ("user", "text"),
    [(Card.opened, "a process has it open through vfio-pci"), (Card.assigned, "it is assigned to guest web")],
    ids=["open", "not open yet"],
)
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_step_is_refused_where_a_vf_was_taken_since_the_plan(
    card: Card, step: Step, user: Callable[[Card], None], text: str
) -> None:
    user(card)
    with pytest.raises(RefusedError, match=f"cannot {step.describe().split(' ')[0]}.*{text}"):
        execute(step, card.host)
    assert card.changes() == []


def test_a_vf_without_a_driver_that_a_guest_was_assigned_is_not_bound(card: Card) -> None:
    """As while the agent starts again between the two writes of a bind."""
    card.tree.bind(VF, None)
    card.assigned()
    with pytest.raises(RefusedError, match="it is assigned to guest web"):
        execute(UnbindDriver(PF, 0, VF), card.host)
    assert card.changes() == []


def test_the_mtu_of_a_driver_that_resets_no_vf_is_set_while_one_is_in_use(tmp_path: Path) -> None:
    card = Card(tmp_path, driver="mlx5_core")
    card.opened()
    execute(STEPS["mtu"], card.host)
    assert card.changes() == ["set_mtu"]
    with pytest.raises(RefusedError, match="open through vfio-pci"):
        execute(STEPS["down"], card.host)


@pytest.mark.parametrize("driver", ["pci-stub", "vendor_passthrough"])
def test_a_vf_is_unbound_from_what_makes_nothing_of_it_for_the_host(card: Card, driver: str) -> None:
    card.tree.bind(VF, driver)
    if driver == "vendor_passthrough":
        (card.tree.device(VF) / "vfio-dev/vfio0").mkdir(parents=True)
    execute(STEPS["driver"], card.host)
    assert (VF, "unbind") in card.changes()


class KeepsOne(FakeSysfs):
    """A driver that reports success and does not remove the first VF."""

    def write(self, path: str, text: str) -> None:
        assert path.endswith("/sriov_numvfs")
        (self.kernel.tree.device(PF) / "virtfn1").unlink()


def test_a_removal_that_leaves_vfs_is_no_count_that_the_driver_makes(card: Card) -> None:
    """Else the PF would be known as one that makes one VF at the most."""
    with pytest.raises(StepError, match="reported success, but there are 1") as raised:
        execute(SetNumvfs(PF, 0), replace(card.host, sysfs=KeepsOne(card.kernel)))
    assert not isinstance(raised.value, WrongCountError)


def test_hwmode_is_not_set_without_vfs(tmp_path: Path) -> None:
    card = Card(tmp_path, vfs=0)
    with pytest.raises(RefusedError, match="it has no VFs by now"):
        execute(STEPS["hwmode"], card.host)
    assert card.changes() == []


def replaced(card: Card) -> None:
    """Another device has the VF's address, such as one that was plugged in after the VF was removed by itself."""
    (card.tree.device(VF) / "physfn").unlink()


def moved(card: Card) -> None:
    """With another count of VFs the addresses of VFs are others."""
    for index, vf in enumerate((SECOND, VF)):
        point(card.tree.device(PF) / f"virtfn{index}", f"../{vf}")


def of_another_pf(card: Card) -> None:
    point(card.tree.device(VF) / "physfn", f"../{OTHER}")


@pytest.mark.parametrize("gone", [replaced, moved, of_another_pf])
@pytest.mark.parametrize("step", ["driver", "no driver"])
def test_what_is_no_longer_that_vf_is_not_unbound(card: Card, step: str, gone: Callable[[Card], None]) -> None:
    gone(card)
    with pytest.raises(StepError) as raised:
        execute(STEPS[step], card.host)
    assert "No such device" in str(raised.value)
    assert (card.changes(), card.tree.bound(VF)) == ([], "vfio-pci")


@pytest.mark.parametrize("gone", [replaced, of_another_pf])
def test_what_is_no_longer_that_vf_is_not_bound(card: Card, gone: Callable[[Card], None]) -> None:
    card.tree.bind(VF, None)
    gone(card)
    with pytest.raises(StepError):
        execute(BindDriver(PF, 0, VF, "vfio-pci"), card.host)
    assert (card.changes(), card.tree.bound(VF)) == ([], None)


class NoOverride(RootedSysfs):
    """driver_override_show() takes the device's lock, which whoever unbinds the VF holds until its user is gone."""

    def read(self, path: str) -> str | None:
        assert not path.endswith("/driver_override"), "this read would hang"
        return super().read(path)


def test_the_override_of_a_vf_that_is_being_taken_from_its_user_is_not_read(tmp_path: Path) -> None:
    card = Card(tmp_path, vfs=1)
    card.tree.bind(VF, None)
    card.opened()
    pf = observe_pf(replace(card.kernel.host, sysfs=NoOverride(tmp_path)), PF)
    assert pf
    assert [(vf.driver, vf.enabled, vf.driver_override) for vf in pf.vfs] == [(None, True, None)]


def neighbour(card: Card, driver: str | None, pci_class: str = "0x020000") -> None:
    """Another device in the IOMMU group of the VF."""
    address = "0000:02:00.0"
    card.tree.add_device(address, **{"class": pci_class})
    card.tree.bind(address, driver)
    for name in (address, VF):
        put(card.tree.device(VF) / "iommu_group/devices" / name, "")


@pytest.mark.parametrize(
    ("driver", "bound"), [("e1000e", False), ("mlx5_core", False), (None, True), ("vfio-pci", True), ("pcieport", True)]
)
def test_a_new_vf_is_bound_to_vfio_only_if_its_iommu_group_lets_a_guest_have_it(
    *, card: Card, driver: str | None, bound: bool
) -> None:
    card.tree.bind(VF, None)
    neighbour(card, driver)
    execute(BindDriver(PF, 0, None, "vfio-pci"), card.host)
    assert card.tree.bound(VF) == ("vfio-pci" if bound else None)


def test_a_new_vf_without_an_iommu_group_is_not_bound_to_vfio(card: Card) -> None:
    card.tree.bind(VF, None)
    (card.tree.device(VF) / "iommu_group").unlink()
    execute(BindDriver(PF, 0, None, "vfio-pci"), card.host)
    assert (card.tree.bound(VF), card.changes()) == (None, [])


def test_a_new_vf_of_the_host_is_bound_whatever_is_in_its_iommu_group(card: Card) -> None:
    card.tree.bind(VF, None)
    neighbour(card, "e1000e")
    execute(BindDriver(PF, 0, None, None), card.host)
    assert card.tree.bound(VF) == "igbvf"


class ReachedSystemdError(Exception):
    pass


def start_guest(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest whose VF was free, and in IOMMU group 100, when it was chosen."""

    def reached(*_: object, **__: object) -> None:
        raise ReachedSystemdError

    monkeypatch.setattr(worker_calls, "Systemd", reached)
    put(card.root / "usr/bin/qemu-system-x86_64", "")
    put(card.root / "srv/web.raw", "")
    (card.root / "srv/web.raw").chmod(0o666)
    rule = GuestRule(name="web", vfs=("a:0",), disk=(DiskRule(path="/srv/web.raw"),))
    order = worker_calls.Order(
        rule, (GuestVf(PF, 0, VF, 100),), Boot(Loader.DISK), kvm=False, machine_id="0" * 32, root=card.root
    )
    worker_calls.start("", order, card.host)


@pytest.mark.parametrize("driver", ["vfio-pci", "mlx5_vfio_pci"])
def test_a_guest_starts_on_a_free_vf(card: Card, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    card.tree.bind(VF, driver)
    with pytest.raises(ReachedSystemdError):
        start_guest(card, monkeypatch)


def test_a_guest_starts_on_a_vf_whose_vfio_driver_is_known_only_by_its_device(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    card.tree.bind(VF, "vendor_passthrough")
    (card.tree.device(VF) / "vfio-dev/vfio0").mkdir(parents=True)
    with pytest.raises(ReachedSystemdError):
        start_guest(card, monkeypatch)


def regrouped(card: Card) -> None:
    """As where the VFs were made again meanwhile: the node of group 100 is another device's."""
    group = card.root / "sys/kernel/iommu_groups/107"
    group.mkdir()
    point(card.tree.device(VF) / "iommu_group", str(group))


def moved_within_the_group(card: Card) -> None:
    moved(card)
    point(card.tree.device(SECOND) / "iommu_group", str(card.root / "sys/kernel/iommu_groups/100"))


def unbound(card: Card) -> None:
    card.tree.bind(VF, None)


def to_the_host(card: Card) -> None:
    card.tree.bind(VF, "igbvf")


def removed(card: Card) -> None:
    card.tree.make_vfs(PF, 0)


@pytest.mark.parametrize("taken", [regrouped, unbound, to_the_host, moved_within_the_group, removed, Card.opened])
def test_a_guest_does_not_start_where_its_vf_changed_since_it_was_chosen(
    card: Card, taken: Callable[[Card], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(card)
    with pytest.raises(VfagentError, match="vf0 is not free any more"):
        start_guest(card, monkeypatch)
