# SPDX-License-Identifier: Apache-2.0
"""What shows that a VF is in use, from a host's files: the words of `list`, of deferred steps and of refusals."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.conftest import time_limit
from tests.host.tree import Tree, point, put
from vfagent.errors import RefusedError
from vfagent.guests.state import lost_vf
from vfagent.kernel.device_users import KernelDeviceUsers
from vfagent.kernel.protocols import Host, Mount, RdmaDevice
from vfagent.model.evidence import is_vfio
from vfagent.model.guest_unit import FoundUnit
from vfagent.model.pci import PciAddress
from vfagent.model.vf_use import pf_in_use, vf_in_use
from vfagent.plan.steps import BindDriver, SetNumvfs
from vfagent.reconcile.execute import execute
from vfagent.reconcile.observe import observe_pf
from vfagent.store.identity import open_host

__all__ = ["time_limit"]  # a removal of VFs would wait for ever in these files

PF = PciAddress("0000:61:00.0")
NIC, INFINIBAND, NVME, QAT, GPU = "0x020000", "0x020700", "0x010802", "0x0b4000", "0x038000"
SWAPS = "Filename\tType\tSize\tUsed\tPriority\n"
MOUNTINFO = "36 1 {number} / {point} rw shared:1 - {kind} {source} rw\n"
UNKNOWN = "it is on the host's driver {}, and nothing shows whether it is used (assume_idle = true permits it)"
UUID = "0d3c7d5c-3a3b-4c3d-8e3f-000000000001"


class Machine:
    """A PF with one VF that has its host driver."""

    def __init__(self, root: Path, kind: str, driver: str) -> None:
        self.tree, self.root = Tree(root), root
        self.tree.add_pf(PF, vfs=1, driver="pf")
        (self.vf,) = map(PciAddress, self.tree.vfs(PF))
        self.folder = self.tree.device(self.vf)
        for address in (PF, self.vf):
            self.tree.add_device(address, **{"class": kind})
        self.tree.add_device(self.vf, enable="1")
        self.tree.bind(self.vf, driver)
        self.mounts("")
        put(root / "proc/swaps", SWAPS)

    def mounts(self, text: str) -> None:
        put(self.root / "proc/1/mountinfo", text or MOUNTINFO.format(number="8:1", point="/", kind="ext4", source="x"))

    def namespace(self, name: str = "nvme1n1", *, parts: tuple[str, ...] = (), head: str | None = None) -> None:
        """A namespace of the VF; with `head` it is one path to a namespace of the subsystem."""
        disk = self.folder / "nvme/nvme1" / name
        put(disk / "size", "8192\n")
        block = self.root / "sys/class/block"
        if head:
            disk = self.root / "sys/devices/virtual/nvme-subsystem/nvme-subsys1" / head
        for number, part in enumerate((disk.name, *parts), 1):
            put((disk if part == disk.name else disk / part) / "dev", f"259:{number}\n")
            point(block / part, str(disk if part == disk.name else disk / part))

    @property
    def host(self) -> Host:
        return open_host(self.root)

    def use(self, host: Host | None = None, *, assume_idle: bool = False) -> str | None:
        pf = observe_pf(host or self.host, PF)
        assert pf
        return vf_in_use(pf.vfs[0], replace(pf, assume_idle=assume_idle))


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str, str], Machine]:
    return lambda kind, driver: Machine(tmp_path, kind, driver)


Make = Callable[[str, str], Machine]


@pytest.mark.parametrize(
    ("driver", "vfio"),
    [
        *((name, True) for name in ("vfio-pci", "mlx5_vfio_pci", "qat_vfio_pci", "hisi_acc_vfio_pci")),
        *((name, True) for name in ("nvgrace_gpu_vfio_pci", "xe_vfio_pci", "virtio_vfio_pci", "pds_vfio_pci")),
        *((name, False) for name in ("mlx5_core", "vfio-platform", "4xxxvf", "igbvf", "pci-stub", None)),
    ],
)
def test_the_kernels_vfio_drivers_are_known_by_name(*, driver: str | None, vfio: bool) -> None:
    assert is_vfio(driver) is vfio


@pytest.mark.parametrize("driver", ["qat_vfio_pci", "vendor_passthrough"])
def test_a_vf_on_a_vfio_driver_of_any_name_is_in_use_while_it_is_open(make: Make, driver: str) -> None:
    machine = make(QAT, driver)
    if driver == "vendor_passthrough":
        (machine.folder / "vfio-dev/vfio0").mkdir(parents=True)
    assert machine.use() == f"a process has it open through {driver}"
    machine.tree.add_device(machine.vf, enable="0")
    assert machine.use() is None


@pytest.mark.parametrize(
    ("driver", "lost"), [("vfio-pci", False), ("passthrough", False), ("igbvf", True), (None, True)]
)
def test_a_guest_has_lost_its_vf_once_no_vfio_driver_has_it(*, make: Make, driver: str | None, lost: bool) -> None:
    machine = make(QAT, "another")
    machine.tree.bind(machine.vf, driver)
    if driver == "passthrough":
        (machine.folder / "vfio-dev/vfio0").mkdir(parents=True)
    unit = FoundUnit("web", "active", "running", "success", 1, (machine.vf,), "rule")
    assert lost_vf(unit, machine.host) is lost


@pytest.mark.parametrize(("kind", "driver"), [(QAT, "4xxxvf"), (GPU, "xe"), (NVME, "nvme"), (NIC, "iavf")])
def test_what_nothing_shows_is_in_use_unless_idle_is_assumed(make: Make, kind: str, driver: str) -> None:
    machine = make(kind, driver)
    assert "nothing shows whether it is used (assume_idle = true permits it)" in (machine.use() or "")
    assert machine.use(assume_idle=True) is None


@pytest.mark.parametrize("driver", ["vp-vdpa", "ifcvf"])
def test_a_vf_on_a_vdpa_driver_is_idle_without_a_vdpa_device(make: Make, driver: str) -> None:
    machine = make(NIC, driver)
    assert machine.use() is None
    vdpa(machine)
    assert machine.use() == "vDPA device net0 is on it"


def test_a_guests_record_counts_whatever_the_driver(make: Make) -> None:
    machine = make(QAT, "4xxxvf")
    put(machine.root / "run/vfagent/vf-users" / machine.vf, '"web"')
    (machine.root / "sys/fs/cgroup/machine.slice/vfagent-guest-web.service").mkdir(parents=True)
    assert machine.use(assume_idle=True) == "it is assigned to guest web"


def on_disk(machine: Machine) -> None:
    line = MOUNTINFO.format(number="259:1", point="/srv/my\\040images", kind="xfs", source="/dev/disk/by-id/x")
    machine.mounts(line)


def on_partition(machine: Machine) -> None:
    machine.mounts(MOUNTINFO.format(number="259:2", point="/srv", kind="vfat", source="/dev/nvme1n1p1"))


def by_name(machine: Machine) -> None:
    """btrfs has a number of its own for each mount."""
    machine.mounts(MOUNTINFO.format(number="0:44", point="/srv", kind="btrfs", source="/dev/nvme1n1p1"))


def second_of_btrfs(machine: Machine) -> None:
    machine.mounts(MOUNTINFO.format(number="0:44", point="/srv", kind="btrfs", source="/dev/sda"))
    (machine.root / f"sys/fs/btrfs/{UUID}/devices/nvme1n1p1").mkdir(parents=True)


def elsewhere(machine: Machine) -> None:
    (machine.root / "sys/fs/ext4/nvme1n1p1").mkdir(parents=True)


def swap(machine: Machine) -> None:
    put(machine.root / "proc/swaps", f"{SWAPS}/dev/nvme1n1p1 partition\t1024\t0\t-2\n")


def volume(machine: Machine) -> None:
    (machine.folder / "nvme/nvme1/nvme1n1/nvme1n1p1/holders/dm-3").mkdir(parents=True)
    put(machine.root / "sys/class/block/dm-3/dm/name", "vg0-images\n")


def array(machine: Machine) -> None:
    (machine.folder / "nvme/nvme1/nvme1n1/holders/md0").mkdir(parents=True)


@pytest.mark.parametrize(
    ("used", "text"),
    [
        (on_disk, "its file system is mounted at /srv/my images (nvme1n1)"),
        (on_partition, "its file system is mounted at /srv (nvme1n1p1)"),
        (by_name, "its file system is mounted at /srv (nvme1n1p1)"),
        (second_of_btrfs, "its btrfs file system is mounted (nvme1n1p1)"),
        (elsewhere, "its ext4 file system is mounted (nvme1n1p1)"),
        (swap, "its block device nvme1n1p1 is swap"),
        (volume, "its block device nvme1n1p1 is below dm-3 (vg0-images)"),
        (array, "its block device nvme1n1 is below md0"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_vf_with_a_block_device_is_in_use_while_that_is(
    make: Make, used: Callable[[Machine], None], text: str
) -> None:
    machine = make(NVME, "nvme")
    machine.namespace(parts=("nvme1n1p1",))
    assert machine.use() is None
    used(machine)
    assert machine.use(assume_idle=True) == text


def test_a_fuse_mount_says_nothing_about_a_block_device(make: Make) -> None:
    """Any user chooses its source."""
    machine = make(NVME, "nvme")
    machine.namespace()
    machine.mounts(MOUNTINFO.format(number="0:50", point="/home/me", kind="fuse.sshfs", source="/dev/nvme1n1"))
    assert machine.use() is None


def test_a_mount_point_cannot_break_a_line(make: Make) -> None:
    machine = make(NVME, "nvme")
    machine.namespace()
    machine.mounts(MOUNTINFO.format(number="259:1", point="/srv/\\012x\\033[2J", kind="ext4", source="/dev/x"))
    assert machine.use() == r"its file system is mounted at /srv/\x0ax\x1b[2J (nvme1n1)"


def test_a_namespace_with_several_paths_is_its_head(make: Make) -> None:
    machine = make(NVME, "nvme")
    machine.namespace("nvme1c3n1", head="nvme1n1")
    assert machine.use() is None
    on_disk(machine)
    assert machine.use() == "its file system is mounted at /srv/my images (nvme1n1)"


@pytest.mark.parametrize("file", ["proc/1/mountinfo", "proc/swaps"])
def test_a_block_device_of_which_mounts_or_swap_cannot_be_read_may_be_in_use(make: Make, file: str) -> None:
    machine = make(NVME, "nvme")
    machine.namespace()
    (machine.root / file).unlink()
    assert machine.use() == UNKNOWN.format("nvme")


def test_a_disk_of_zfs_may_be_in_use(make: Make) -> None:
    class Udev:
        def properties(self, subsystem: str, name: str) -> Mapping[str, str]:
            return {"ID_FS_TYPE": "zfs_member"} if (subsystem, name) == ("block", "nvme1n1p1") else {}

    machine = make(NVME, "nvme")
    machine.namespace(parts=("nvme1n1p1",))
    assert machine.use(replace(machine.host, udev=Udev())) == UNKNOWN.format("nvme")


def vdpa(machine: Machine) -> None:
    """By a name that somebody chose."""
    (machine.folder / "net0").mkdir()
    (machine.root / "sys/bus/vdpa/devices/net0").mkdir(parents=True)


def vdpa_of_pds(machine: Machine) -> None:
    (machine.folder / "pds_core.vDPA.0/vdpa0").mkdir(parents=True)
    (machine.root / "sys/bus/vdpa/devices/vdpa0").mkdir(parents=True)


def mediated(machine: Machine) -> None:
    (machine.folder / UUID).mkdir()


def away(machine: Machine) -> None:
    (machine.folder / "net").mkdir()


def away_below_virtio(machine: Machine) -> None:
    (machine.folder / "virtio7/net").mkdir(parents=True)


def rdma_away(machine: Machine) -> None:
    (machine.folder / "infiniband").mkdir()


@pytest.mark.parametrize(
    ("used", "text"),
    [
        (vdpa, "vDPA device net0 is on it"),
        (vdpa_of_pds, "vDPA device vdpa0 is on it"),
        (mediated, f"mediated device {UUID} is on it"),
        (away, "its netdev is in another network namespace"),
        (away_below_virtio, "its netdev is in another network namespace"),
        (rdma_away, "its RDMA device is in another network namespace"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_vf_of_a_nic_is_in_use_by_what_is_on_it(make: Make, used: Callable[[Machine], None], text: str) -> None:
    machine = make(NIC, "mlx5_core")
    used(machine)
    assert machine.use(assume_idle=True) == text


def test_a_vdpa_device_on_another_vf_does_not_count(make: Make) -> None:
    machine = make(NIC, "mlx5_core")
    machine.tree.add_netdev("ens1v0", machine.vf)
    (machine.root / "sys/bus/vdpa/devices/vdpa9").mkdir(parents=True)
    assert machine.use() is None


@pytest.mark.parametrize(("refcnt", "used"), [("0", False), ("1", True), (None, True)])
def test_a_vf_on_uio_is_in_use_while_its_driver_is(*, make: Make, refcnt: str | None, used: bool) -> None:
    machine = make(NIC, "igb_uio")
    assert machine.use() is None  # it has no UIO device
    (machine.folder / "uio/uio0").mkdir(parents=True)
    if refcnt:
        put(machine.root / "sys/bus/pci/drivers/igb_uio/module/refcnt", f"{refcnt}\n")
    text = "a process may have it open through igb_uio, as uio0: its module is in use"
    assert machine.use() == (text if used else None)


def test_a_vf_on_pci_stub_is_idle(make: Make) -> None:
    assert make(NIC, "pci-stub").use() is None


class Users(KernelDeviceUsers):
    """Of an RDMA device mlx5_2."""

    def __init__(self, *, opened: bool = False, services: tuple[str, ...] | None = ()) -> None:
        super().__init__()
        self.opened, self.services = opened, services

    def mounts(self) -> tuple[Mount, ...]:
        return ()

    def rdma_devices(self) -> Mapping[str, RdmaDevice]:
        return {"mlx5_2": RdmaDevice(7, opened=self.opened), "mlx5_0": RdmaDevice(1, opened=True)}

    def rdma_services(self, index: int) -> tuple[str, ...] | None:
        return self.services if index == 7 else ("another",)


@pytest.mark.parametrize(
    ("users", "text"),
    [
        (Users(), None),
        (Users(opened=True), "a process uses its RDMA device mlx5_2"),
        (Users(services=("nvme_rdma",)), "nvme_rdma of the kernel uses its RDMA device mlx5_2"),
    ],
)
@pytest.mark.parametrize("kind", [NIC, INFINIBAND])
def test_a_vf_is_in_use_while_its_rdma_device_is(make: Make, kind: str, users: Users, text: str | None) -> None:
    machine = make(kind, "mlx5_core")
    (machine.folder / "infiniband/mlx5_2").mkdir(parents=True)
    if kind == NIC:
        machine.tree.add_netdev("ens1v0", machine.vf)
    assert machine.use(replace(machine.host, device_users=users)) == text


def test_an_rdma_device_whose_queue_pairs_the_kernel_does_not_list_may_be_in_use(make: Make) -> None:
    machine = make(INFINIBAND, "mlx5_core")
    (machine.folder / "infiniband/mlx5_2").mkdir(parents=True)
    use = machine.use(replace(machine.host, device_users=Users(services=None)))
    assert "nothing shows whether it is used" in (use or "")


def test_an_infiniband_vf_without_netdev_is_idle_without_rdma_device_only(make: Make) -> None:
    machine = make(INFINIBAND, "mlx5_core")
    assert machine.use() is None
    (machine.folder / "infiniband/mlx5_2").mkdir(parents=True)
    assert "nothing shows whether it is used" in (machine.use() or "")  # of a copied tree, RDMA cannot be asked


def test_a_step_asks_again_and_takes_idle_as_its_rule_does(make: Make) -> None:
    machine = make(QAT, "4xxxvf")
    for step in (SetNumvfs(PF, 0), BindDriver(PF, 0, machine.vf, "vfio-pci")):
        with pytest.raises(RefusedError, match="nothing shows whether it is used"):
            execute(step, machine.host)
    put(machine.root / "sys/bus/pci/drivers_probe", "")
    put(machine.root / "sys/bus/pci/drivers/4xxxvf/unbind", "")
    with pytest.raises(Exception, match="bound to 4xxxvf afterwards"):  # these files bind nothing
        execute(BindDriver(PF, 0, machine.vf, "vfio-pci"), replace(machine.host, assume_idle=True))
    assert (machine.root / "sys/bus/pci/drivers/4xxxvf/unbind").read_text() == machine.vf


def test_a_file_system_mounted_after_the_plan_is_not_taken_away(make: Make) -> None:
    machine = make(NVME, "nvme")
    machine.namespace()
    pf = observe_pf(machine.host, PF)
    assert pf
    assert pf_in_use(pf) == ()
    on_disk(machine)
    for step in (SetNumvfs(PF, 0), BindDriver(PF, 0, machine.vf, "vfio-pci")):
        with pytest.raises(RefusedError, match="mounted at /srv/my images"):
            execute(step, replace(machine.host, assume_idle=True))
