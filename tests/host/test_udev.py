# SPDX-License-Identifier: Apache-2.0
"""udev's events through the real libudev and kernel, and its database."""

import asyncio
import ctypes
import errno
import os
import select
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.leaks import run_to_end
from tests.host.namespace import add_veth, ip
from tests.host.scheduler_rig import Rig as SchedulerRig
from tests.host.uevents import message, send
from tests.host.waiting import until
from vfagent.kernel.udev import KernelUdevDatabase, UdevEvent, UdevMonitor
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.process.workers import Workers
from vfagent.service.kernel_events import KernelEvents

pytestmark = pytest.mark.usefixtures("kernel")

PORT = "/devices/pci0000:00/0000:00:03.0"
PF, VF = PciAddress("0000:01:00.0"), PciAddress("0000:01:10.0")


def drained(monitor: UdevMonitor) -> list[UdevEvent]:
    assert select.select([monitor], [], [], 2)[0], "nothing arrived"
    return list(monitor.drain())


@pytest.mark.parametrize(
    ("devpath", "subsystem", "event"),
    [
        (f"{PORT}/{PF}", "pci", UdevEvent("change", "pci", PF, PF)),
        (f"{PORT}/{VF}", "pci", UdevEvent("change", "pci", VF, VF)),
        (f"{PORT}/{PF}/net/ens1", "net", UdevEvent("change", "net", PF, "ens1")),
        (f"{PORT}/{VF}/net/ens1v0", "net", UdevEvent("change", "net", VF, "ens1v0")),
        (f"{PORT}/{PF}/virtio2/net/eth0", "net", UdevEvent("change", "net", PF, "eth0")),
    ],
    ids=["pf", "vf", "pf's netdev", "vf's netdev", "virtio's netdev"],
)
def test_an_event_names_the_pci_function_it_is_about(devpath: str, subsystem: str, event: UdevEvent) -> None:
    monitor = UdevMonitor(lambda: None)
    send(message(devpath, subsystem=subsystem))
    assert drained(monitor) == [event]


def test_events_without_the_tag_are_filtered_out() -> None:
    monitor = UdevMonitor(lambda: None)
    send(message(f"{PORT}/{PF}", tags=()), message(f"{PORT}/{PF}", tags=("systemd", "seat")))
    assert not select.select([monitor], [], [], 0.2)[0]
    send(message(f"{PORT}/{PF}", tags=("systemd", "vfagent")))
    assert [event.address for event in drained(monitor)] == [PF]


def test_a_netdev_of_no_pci_device_is_ignored() -> None:
    monitor = UdevMonitor(lambda: None)
    send(message("/devices/virtual/net/br0", subsystem="net"), message(f"{PORT}/{PF}", action="bind"))
    assert drained(monitor) == [UdevEvent("bind", "pci", PF, PF)]


def overflow(monitor: UdevMonitor) -> None:
    with socket.socket(fileno=os.dup(monitor.fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    for _ in range(100):
        send(message(f"{PORT}/{PF}"))


def test_a_monitor_starts_whatever_errno_was_before() -> None:
    """pyudev takes libudev's 1, for success, as an error and raises by errno."""
    ctypes.set_errno(errno.ENOENT)
    monitor = UdevMonitor(lambda: None)
    with socket.socket(fileno=os.dup(monitor.fileno())) as duplicate:
        assert duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 << 20  # the kernel doubles it
    ctypes.set_errno(errno.ENOENT)
    monitor.restart()


def test_an_overflow_is_an_error_and_a_new_monitor_works() -> None:
    lost: list[str] = []
    monitor = UdevMonitor(lambda: lost.append("all"))
    overflow(monitor)
    with pytest.raises(OSError):
        drained(monitor)
    monitor.restart()
    assert lost == ["all"]
    send(message(f"{PORT}/{PF}"))
    assert drained(monitor) == [UdevEvent("change", "pci", PF, PF)]


class Listener:
    """Guests and bridges, which get some events."""

    def __init__(self) -> None:
        self.calls = list[str]()

    def waiting(self) -> bool:
        return False

    def check_vfs(self) -> None:
        self.calls.append("check_vfs")

    def vf_event(self, address: PciAddress) -> None:
        pass

    def links_changed(self, ifindexes: set[int]) -> None:
        pass

    def reconcile_soon(self) -> None:
        self.calls.append("reconcile_soon")


class Rig(SchedulerRig):
    """With the events of the real monitors."""

    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__(kernel, Workers())
        self.listener = Listener()
        self.kernel_events = KernelEvents(kernel.host, self.scheduler, self.listener, self.listener)

    def rounds(self, address: PciAddress = PF) -> int:
        state = self.scheduler.pfs.get(address)
        return state.progress.rounds if state else 0


@pytest.fixture
def watched(tmp_path: Path) -> Callable[..., None]:
    """Run `body` with a converged PF and its two VFs."""
    files = FakeKernel(tmp_path)
    files.tree.policy('[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 2\n')
    files.tree.add_pf(PF)

    def run(body: Callable[[Rig, FakeKernel], object]) -> None:
        async def main() -> None:
            rig = Rig(files)
            rig.kernel_events.start()
            rig.kernel_events.reconcile_all()
            await until(lambda: PF in rig.scheduler.pfs and rig.scheduler.pfs[PF].phase is Phase.CONVERGED)
            await rig.idle()
            try:
                await body(rig, files)  # type: ignore[misc]
            finally:
                await rig.kernel_events.stop()
                await rig.scheduler.stop(within_s=10.0)

        run_to_end(main())

    return run


@pytest.mark.parametrize(
    "devpath", [f"{PORT}/{PF}", f"{PORT}/{PF}/net/ens1", f"{PORT}/{VF}"], ids=["pf", "pf's netdev", "vf"]
)
def test_an_event_of_a_pf_or_vf_reconciles_the_pf(watched: Callable[..., None], devpath: str) -> None:
    async def body(rig: Rig, files: FakeKernel) -> None:
        before = rig.rounds()
        send(message(devpath))
        await until(lambda: rig.rounds() > before)
        await rig.idle()

    watched(body)


def test_the_event_of_a_removed_vf_reconciles_its_pf(watched: Callable[..., None]) -> None:
    """Its physfn link went with it."""

    async def body(rig: Rig, files: FakeKernel) -> None:
        files.tree.make_vfs(PF, 0)
        send(message(f"{PORT}/{VF}", action="remove"))
        await until(lambda: len(files.tree.vfs(PF)) == 2)
        await rig.idle()

    watched(body)


def test_unbinding_a_vf_of_a_guest_is_reported_at_once(watched: Callable[..., None]) -> None:
    """The PF's own event comes only after the guest has closed the VF, which may be never."""

    async def body(rig: Rig, files: FakeKernel) -> None:
        rig.listener.calls.clear()
        before = rig.rounds()
        send(message(f"{PORT}/{VF}/vfio-dev/vfio0", action="remove", subsystem="vfio-dev"))
        await until(lambda: rig.listener.calls == ["check_vfs"])
        assert rig.rounds() == before

    watched(body)


def test_a_card_that_is_plugged_in_is_configured(watched: Callable[..., None]) -> None:
    other = PciAddress("0000:02:00.0")

    async def body(rig: Rig, files: FakeKernel) -> None:
        files.tree.add_pf(other)
        send(message(f"{PORT}/{other}", action="add"), message(f"{PORT}/{other}", action="bind"))
        await until(lambda: len(files.tree.vfs(other)) == 2)
        await rig.idle()

    watched(body)


def test_events_of_other_devices_are_ignored(watched: Callable[..., None]) -> None:
    async def body(rig: Rig, files: FakeKernel) -> None:
        files.tree.add_device("0000:05:00.0", vendor="0x8086")
        before = rig.rounds()
        send(message("/devices/pci0000:00/0000:05:00.0"))
        await asyncio.sleep(0.3)
        assert set(rig.scheduler.pfs) == {PF}
        assert rig.rounds() == before

    watched(body)


def test_an_event_with_a_name_that_is_not_utf_8_reconciles_everything(
    watched: Callable[..., None],
) -> None:
    async def body(rig: Rig, files: FakeKernel) -> None:
        before = rig.rounds()
        send(message(os.fsdecode(b"%s/%s/net/en\xff1" % (PORT.encode(), PF.encode())), subsystem="net"))
        await until(lambda: rig.rounds() > before)
        await rig.idle()
        assert rig.scheduler.counters.overflows["udev"] == 1
        before = rig.rounds()
        send(message(f"{PORT}/{PF}"))
        await until(lambda: rig.rounds() > before)
        await rig.idle()

    watched(body)


def test_lost_events_reconcile_the_bridges_too(watched: Callable[..., None]) -> None:
    async def body(rig: Rig, files: FakeKernel) -> None:
        rig.listener.calls.clear()
        overflow(rig.kernel_events.udev)
        await until(lambda: rig.listener.calls == ["reconcile_soon"])
        await rig.idle()

    watched(body)


def test_without_an_inotify_instance_other_events_still_work(
    watched: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "inotify_init1: Too many open files")

    async def body(rig: Rig, files: FakeKernel) -> None:
        before = rig.rounds()
        send(message(f"{PORT}/{PF}"))
        await until(lambda: rig.rounds() > before)
        await rig.idle()

    monkeypatch.setattr("vfagent.service.kernel_events.vfio_monitor", none_left)
    watched(body)
    assert "cannot watch /dev/vfio: inotify_init1: Too many open files" in caplog.text


def test_lost_events_reconcile_everything_and_the_monitor_goes_on(watched: Callable[..., None]) -> None:
    other = PciAddress("0000:02:00.0")

    async def body(rig: Rig, files: FakeKernel) -> None:
        files.tree.add_pf(other)  # its own event is among the lost
        files.tree.make_vfs(PF, 0)
        overflow(rig.kernel_events.udev)
        await until(lambda: len(files.tree.vfs(other)) == len(files.tree.vfs(PF)) == 2)
        await rig.idle()
        files.tree.make_vfs(PF, 0)
        send(message(f"{PORT}/{PF}"))
        await until(lambda: len(files.tree.vfs(PF)) == 2)
        await rig.idle()

    watched(body)


def test_ten_thousand_events_are_three_reconciles_at_most(watched: Callable[..., None]) -> None:
    async def body(rig: Rig, files: FakeKernel) -> None:
        before = rig.rounds()
        storm = [message(f"{PORT}/{PF}", action=action) for action in ("add", "change", "bind", "change")] * 2500
        with ThreadPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, send, *storm)
        await until(lambda: rig.rounds() > before)
        await rig.idle()
        assert rig.rounds() - before <= 3

    watched(body)


def test_a_link_change_by_hand_reconciles_the_pf_without_a_uevent(watched: Callable[..., None]) -> None:
    """A link notification has the netdev's ifindex: here that of a veth in place of the PF's."""

    async def body(rig: Rig, files: FakeKernel) -> None:
        files.tree.add_netdev("pf0", PF)
        (files.tree.root / "sys/class/net/pf0/ifindex").write_text(str(ifindex))
        send(message(f"{PORT}/{PF}"))
        await until(lambda: ifindex in rig.scheduler.pfs[PF].observed.ifindexes)
        await rig.idle()
        before = rig.rounds()
        ip("link", "set", "pf0", "mtu", "1400")
        await until(lambda: rig.rounds() > before)
        await rig.idle()

    ifindex = add_veth("pf0", "wire0")
    watched(body)


def test_the_properties_are_those_of_udevs_database() -> None:
    ifindex = add_veth("pf0", "wire0")
    Path(f"/run/udev/data/n{ifindex}").write_text("I:4711\nE:ID_PATH=pci-0000:01:00.0\nE:ID_MODEL=x y\n")
    properties = KernelUdevDatabase().properties("net", "pf0")
    assert properties is not None
    assert (properties["ID_PATH"], properties["ID_MODEL"]) == ("pci-0000:01:00.0", "x y")


def test_a_netdev_whose_name_is_not_utf_8_has_no_properties() -> None:
    """The kernel accepts any bytes but blanks, `/` and `:`; pyudev only text."""
    add_veth("pf0", "wire0")
    ip("link", "set", "pf0", "name", os.fsdecode(b"pf\xff0"))
    assert KernelUdevDatabase().properties("net", os.fsdecode(b"pf\xff0")) == {}


def test_a_device_that_udev_has_not_initialized_has_no_properties() -> None:
    add_veth("pf0", "wire0")
    assert KernelUdevDatabase().properties("net", "pf0") is None
    assert KernelUdevDatabase().properties("net", "absent") is None
    assert KernelUdevDatabase().properties("pci", "ffff:ff:1f.7") is None
