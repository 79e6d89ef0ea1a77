# SPDX-License-Identifier: Apache-2.0
"""Guests on a host made of files, with a fake systemd: started, recognised, left alone."""

import asyncio
import errno
import json
import os
import shlex
import shutil
import signal
import socket
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.host.fake_ipxe import fake_ipxe
from tests.host.fake_kernel import FakeKernel
from tests.host.fake_systemd import AWAY, BEGUN, FAULTS, RUN_STATES, fake_systemd
from tests.host.leaks import run_to_end
from tests.host.test_units import calls
from tests.host.tree import put
from tests.host.waiting import until
from vfagent.guests.lifecycle import Guests
from vfagent.guests.state import Job
from vfagent.kernel import vfio_group
from vfagent.kernel.udev import QUEUE, STORED
from vfagent.model.ends_by import GuestEndsBy
from vfagent.model.pci import PciAddress
from vfagent.model.status import MOST_ATTEMPTS, GuestStatus
from vfagent.model.vf_use import pf_in_use
from vfagent.policy.match import HostIdentity
from vfagent.process import worker
from vfagent.process.worker import Send, Worker
from vfagent.process.workers import Workers
from vfagent.reconcile.observe import observe_pf, pf_addresses
from vfagent.reconcile.scheduler import Scheduler
from vfagent.store.guest_records import GuestRecords, Record
from vfagent.store.policy_files import load
from vfagent.store.state import State

PF = PciAddress("0000:01:00.0")
POLICY = """
[[pf]]
name = "a"
match = { driver = "igb" }
vfs = 2
[[pf.vf]]
index = "*"
driver = "vfio-pci"

[[guest]]
name = "x"
vfs = ["a:0"]
[guest.ipxe]
address = "dhcp"
"""
VF_KNOWN = "usr/lib/systemd/system/vfagent-vf@.target"
SECOND = '\n[[guest]]\nname = "y"\nvfs = ["a"]\n[guest.ipxe]\naddress = "dhcp"\n'


class Running:
    """A scheduler and its guests, as the agent has them."""

    def __init__(self, kernel: FakeKernel, bus: str) -> None:
        self.kernel, root = kernel, kernel.tree.root
        identity = HostIdentity("node1", "0123")
        workers = Workers()
        self.scheduler = Scheduler(kernel.host, State(root), identity, load(root), workers, lambda _: self.changed())
        self.guests = Guests(kernel.host, root, self.scheduler, workers, lambda: None, bus=bus)

    def changed(self) -> None:
        self.guests.consider_soon()

    def reconcile(self) -> None:
        for address in {*pf_addresses(self.kernel.host), *self.scheduler.pfs}:
            self.scheduler.mark_dirty(PciAddress(address), now=True)
        self.guests.consider_soon()

    def reload(self, policy: str) -> None:
        self.kernel.tree.policy(policy)
        self.scheduler.set_policy(load(self.kernel.tree.root))
        self.reconcile()

    def guest(self, name: str = "x") -> GuestStatus | None:
        return next((guest for guest in self.guests.status() if guest.name == name), None)

    def phase(self, name: str = "x") -> str | None:
        guest = self.guest(name)
        return guest.phase if guest else None

    def pid(self, name: str = "x") -> int:
        guest = self.guest(name)
        assert guest
        assert guest.pid
        return guest.pid

    async def until(self, condition: Callable[[], object]) -> None:
        await until(condition, lambda: (self.guests.status(), self.scheduler.pfs))

    async def stop(self) -> None:
        await self.guests.stop()
        await self.scheduler.stop(within_s=60.0)


Story = Callable[[Running], Coroutine[Any, Any, None]]

CAN_VIRTUALIZE = "cpu:type:x86,ven0000fam0006mod008F:feature:,0000,0001,0085,0086\n"


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    kernel = FakeKernel(tmp_path)
    kernel.tree.policy(POLICY)
    return kernel


@pytest.fixture
def bus(kernel: FakeKernel) -> Iterator[str]:
    with fake_systemd(kernel.tree.root) as (address, _):
        yield address


@pytest.fixture
def run(kernel: FakeKernel, bus: str) -> Callable[[Story], None]:
    """Runs a story with an agent of its own; the next story's agent finds what the first one left."""

    async def with_agent(story: Story) -> None:
        running = Running(kernel, bus)
        running.reconcile()
        await story(running)
        await running.stop()

    return lambda story: run_to_end(with_agent(story))


Run = Callable[[Story], None]


def started(kernel: FakeKernel) -> list[str]:
    return [body[0] for body in calls(kernel.tree.root / "calls", "StartTransientUnit")]


async def runs(agent: Running) -> None:
    await agent.until(lambda: agent.phase() == "running")


def test_a_guest_without_its_ipxe_image_waits_for_it(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    image = kernel.tree.root / "usr/lib/ipxe/ipxe.lkrn"
    put(kernel.tree.root / "usr/bin/qemu-system-x86_64", "")

    async def story(agent: Running) -> None:
        await agent.until(lambda: "ipxe.lkrn (the iPXE image) does not exist" in str(agent.guest()))
        assert started(kernel) == []
        put(image, "")
        await runs(agent)

    run(story)


def test_a_file_that_comes_late_is_waited_for_without_a_last_attempt(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfagent.guests.state.LONGEST_MISS_S", 0.1)
    kernel.tree.add_pf(PF)
    put(kernel.tree.root / "usr/bin/qemu-system-x86_64", "")

    async def story(agent: Running) -> None:
        await agent.until(lambda: "x" in agent.guests.guests and agent.guests.guests["x"].misses > MOST_ATTEMPTS)
        status = agent.guest()
        assert status
        assert (status.phase, status.until, status.start_failures) == ("waiting", GuestEndsBy.FILE, 0)
        put(kernel.tree.root / "usr/lib/ipxe/ipxe.lkrn", "")
        await runs(agent)

    run(story)


DISK = '[[guest.disk]]\npath = "{}"'


def with_disk(kernel: FakeKernel, path: str) -> None:
    kernel.tree.add_pf(PF)
    kernel.tree.policy(POLICY.replace('[guest.ipxe]\naddress = "dhcp"', DISK.format(path)))
    put(kernel.tree.root / "usr/bin/qemu-system-x86_64", "")


def test_a_device_that_comes_late_is_waited_for(kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfagent.guests.state.LONGEST_MISS_S", 0.1)
    with_disk(kernel, "/dev/zvol/tank/a")
    away = kernel.tree.root / AWAY
    away.write_text("/loaded/dev_2dzvol_2dtank_2da_2edevice\n")

    async def story(agent: Running) -> None:
        await agent.until(lambda: "/dev/zvol/tank/a (its disk) is not there" in str(agent.guest()))
        assert agent.phase() == "waiting"
        assert started(kernel) == []
        away.unlink()
        await runs(agent)

    run(story)
    assert "dev-zvol-tank-a.device" in started_by(kernel)["After"]
    assert "zfs-volumes.target" in started_by(kernel)["After"]


def test_a_link_to_a_device_is_the_device(kernel: FakeKernel, run: Run) -> None:
    with_disk(kernel, "/srv/disks/lun0")
    link = kernel.tree.root / "srv/disks/lun0"
    link.parent.mkdir(parents=True)
    link.symlink_to(kernel.tree.root / "dev/vg/lun0")

    async def story(agent: Running) -> None:
        await runs(agent)
        assert agent.guest().outdated is False  # type: ignore[union-attr]

    run(story)
    assert ["/dev/vg/lun0", "rw"] in started_by(kernel)["DeviceAllow"]


@pytest.mark.parametrize(
    ("mode", "readonly", "text"),
    [
        (0o644, "false", "/srv/a (its disk) cannot be written by QEMU: it is root:root, mode 0644 (chown root:kvm"),
        (0o600, "true", "/srv/a (its disk) cannot be read by QEMU: it is root:root, mode 0600"),
        (0o644, "true", None),
        (0o666, "false", None),
    ],
)
def test_a_disk_that_qemu_cannot_open_is_reported_before_the_start(
    kernel: FakeKernel, run: Run, mode: int, readonly: str, text: str | None
) -> None:
    with_disk(kernel, f'/srv/a"\nreadonly = {readonly} #')
    disk = kernel.tree.root / "srv/a"
    put(disk, "")
    disk.chmod(mode)

    async def story(agent: Running) -> None:
        if text:
            await agent.until(lambda: text in str(agent.guest()))
            disk.chmod(0o666)
        await runs(agent)

    run(story)
    assert len(started(kernel)) == 1


def test_a_folder_is_no_disk(kernel: FakeKernel, run: Run) -> None:
    with_disk(kernel, "/srv/a")
    (kernel.tree.root / "srv/a").mkdir(parents=True)

    async def story(agent: Running) -> None:
        await agent.until(lambda: "/srv/a (its disk) is a folder, not a file" in str(agent.guest()))

    run(story)


def test_a_guest_starts_after_those_that_its_rule_names(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    nas = SECOND.replace('name = "y"', 'name = "nas"')
    kernel.tree.policy(POLICY.replace('vfs = ["a:0"]', 'vfs = ["a:0"]\nafter = ["nas"]') + nas)
    put(kernel.tree.root / "usr/bin/qemu-system-x86_64", "")
    image = kernel.tree.root / "usr/lib/ipxe/ipxe.lkrn"

    async def story(agent: Running) -> None:
        await agent.until(lambda: "ipxe.lkrn" in str(agent.guest("nas")))
        await agent.until(lambda: agent.guest().detail == "guest nas is to run first")  # type: ignore[union-attr]
        assert agent.guest().until == GuestEndsBy.GUEST  # type: ignore[union-attr]
        put(image, "")
        await runs(agent)

    run(story)
    assert started(kernel) == ["vfagent-guest-nas.service", "vfagent-guest-x.service"]
    *_, body = calls(kernel.tree.root / "calls", "StartTransientUnit")
    assert "vfagent-guest-nas.service" in {name: value for name, (_, value) in body[2]}["After"]


def test_a_guest_that_stays_down_is_not_waited_for(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    nas = SECOND.replace('name = "y"', 'name = "nas"')
    kernel.tree.policy(POLICY.replace('vfs = ["a:0"]', 'vfs = ["a:0"]\nafter = ["nas"]') + nas)

    async def story(agent: Running) -> None:
        await runs(agent)
        assert await agent.guests.request("stop", "x") is None
        assert await agent.guests.request("stop", "nas") is None
        assert await agent.guests.request("start", "x") is None
        await runs(agent)
        assert agent.phase("nas") == "stopped"

    run(story)


def test_a_guest_starts_when_its_vfs_are_ready(kernel: FakeKernel, run: Run) -> None:
    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.phase() == "waiting")
        assert agent.guest().detail == "no PF of rule 'a' has a free VF"  # type: ignore[union-attr]
        kernel.tree.add_pf(PF)
        agent.reconcile()
        await runs(agent)

    run(story)
    assert started(kernel) == ["vfagent-guest-x.service"]


def started_by(kernel: FakeKernel) -> dict[str, Any]:
    [body] = calls(kernel.tree.root / "calls", "StartTransientUnit")
    return {name: value for name, (_, value) in body[2]}


def udev_is_busy(kernel: FakeKernel) -> None:
    """It has handled the PF."""
    for name in (QUEUE, f"{STORED}/+pci:{PF}"):
        put(kernel.tree.root / name, "")


@pytest.fixture
def behind(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node of the VF's group at a boot: VFs are ready long before udev has handled it."""
    monkeypatch.setattr(vfio_group, "_KVM", "daemon")  # a group that every system has
    kernel.tree.add_pf(PF)
    udev_is_busy(kernel)
    for name in (VF_KNOWN, "dev/vfio/100"):
        put(kernel.tree.root / name, "")
    node = kernel.tree.root / "dev/vfio/100"
    node.chmod(0o600)
    return node


def test_a_guest_does_not_wait_for_udev_when_its_groups_can_be_opened(
    kernel: FakeKernel, behind: Path, run: Run
) -> None:
    run(runs)
    assert not {"After", "BindsTo"} & started_by(kernel).keys()
    assert behind.stat().st_mode & 0o777 == 0o660


def waits_for_udev(kernel: FakeKernel) -> bool:
    return "dev-vfio-100.device" in started_by(kernel)["After"]


def test_a_guest_is_ordered_after_its_vfs_once_udev_has_handled_them(
    kernel: FakeKernel, behind: Path, run: Run
) -> None:
    put(kernel.tree.root / "run/udev/data/c0:0", "G:systemd\n")
    run(runs)
    assert waits_for_udev(kernel)
    assert behind.stat().st_mode & 0o777 == 0o660


def test_a_guest_whose_groups_the_service_does_not_see_waits_for_udev(
    kernel: FakeKernel, behind: Path, run: Run
) -> None:
    behind.unlink()  # as where /dev/vfio came after the service
    run(runs)
    assert waits_for_udev(kernel)


def test_a_guest_whose_group_has_a_mode_of_somebody_does_not_start(kernel: FakeKernel, behind: Path, run: Run) -> None:
    behind.chmod(0o640)

    async def story(agent: Running) -> None:
        await agent.until(lambda: "cannot open /dev/vfio/100 to group kvm" in str(agent.guest()))

    run(story)
    assert (started(kernel), behind.stat().st_mode & 0o777) == ([], 0o640)


def test_a_group_is_open_while_its_guest_runs_and_taken_back_afterwards(
    kernel: FakeKernel, behind: Path, run: Run
) -> None:
    async def story(agent: Running) -> None:
        await runs(agent)
        agent.guests.units.refresh()
        await asyncio.sleep(0.5)
        assert vfio_group.opened_to_kvm(kernel.tree.root) == {100}
        assert await agent.guests.request("stop", "x") is None
        await agent.until(lambda: vfio_group.opened_to_kvm(kernel.tree.root) == set())

    run(story)
    assert behind.stat().st_mode & 0o777 == 0o600


def test_a_group_that_was_open_for_a_guest_that_ended_meanwhile_is_taken_back(
    kernel: FakeKernel, behind: Path, run: Run
) -> None:
    """Also if the policy has no guest any more."""
    assert vfio_group.open_to_kvm(100, kernel.tree.root)
    kernel.tree.policy(POLICY.partition("[[guest]]")[0])

    async def story(agent: Running) -> None:
        await agent.until(lambda: vfio_group.opened_to_kvm(kernel.tree.root) == set())

    run(story)


def test_a_guest_waits_for_udev_where_the_vf_target_is_not_installed(
    kernel: FakeKernel, behind: Path, run: Run
) -> None:
    """As pip installs it."""
    (kernel.tree.root / VF_KNOWN).unlink()
    run(runs)
    assert waits_for_udev(kernel)


def test_a_guest_with_a_block_device_waits_for_udev(kernel: FakeKernel, behind: Path, run: Run) -> None:
    kernel.tree.policy(POLICY.replace('[guest.ipxe]\naddress = "dhcp"', '[[guest.disk]]\npath = "/dev/vg/x"'))
    run(runs)
    assert waits_for_udev(kernel)


def test_a_guest_is_registered_with_machined_once_after_its_start(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At boot machined would have to be started, beside the guest."""
    monkeypatch.setattr("vfagent.guests.unit_monitor._REGISTER_S", 1.0)
    kernel.tree.add_pf(PF)
    log = kernel.tree.root / "calls"

    async def story(agent: Running) -> None:
        await runs(agent)
        assert calls(log, "RegisterMachine") == []
        await agent.until(lambda: calls(log, "RegisterMachine"))
        times = len(calls(log, "ListUnitsByPatterns"))
        for further in range(1, 4):
            agent.guests.units.refresh()
            await agent.until(partial(listed, times + further))
        await asyncio.sleep(1.2)

    def listed(times: int) -> bool:
        return len(calls(log, "ListUnitsByPatterns")) >= times

    run(story)
    assert [body[0] for body in calls(log, "RegisterMachine")] == ["x"]


def test_machined_gets_the_uuid_that_qemu_has(kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfagent.guests.unit_monitor._REGISTER_S", 0.1)
    kernel.tree.add_pf(PF)
    log = kernel.tree.root / "calls"

    async def story(agent: Running) -> None:
        await agent.until(lambda: calls(log, "RegisterMachine"))

    run(story)
    words = shlex.split(Path(dict(started_by(kernel)["LoadCredential"])["command"]).read_text())
    [registered] = [body[1].encode("latin-1") for body in calls(log, "RegisterMachine")]
    assert registered == uuid.UUID(words[words.index("-uuid") + 1]).bytes


def test_a_failed_start_names_the_guest_in_the_journal(
    kernel: FakeKernel, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.tree.policy(POLICY.replace('name = "x"', 'name = "broken"'))
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await agent.until(lambda: "job ended as failed" in caplog.text)

    run(story)
    [record] = [record for record in caplog.records if "job ended as failed" in record.getMessage()]
    assert vars(record)["VFAGENT_GUEST"] == "broken"
    assert record.getMessage().startswith("guest broken: cannot start: ")


def test_many_guests_start_a_few_at_a_time(kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the lab, twenty at once on two processors each exceeded systemd's timeout."""
    monkeypatch.setattr("vfagent.guests.lifecycle.MOST_STARTS", 2)
    kernel.tree.add_pf(PF)
    several = POLICY.replace("vfs = 2", "vfs = 6").replace(
        'name = "x"\nvfs = ["a:0"]', 'name = "x{index}"\neach = "a:0-5"'
    )
    kernel.tree.policy(several)
    at_once = set[int]()

    async def story(agent: Running) -> None:
        def all_run() -> bool:
            at_once.add(sum(guest.job is Job.START for guest in agent.guests.guests.values()))
            return [agent.phase(f"x{index}") for index in range(6)] == ["running"] * 6

        await agent.until(all_run)

    run(story)
    assert max(at_once) == 2


@pytest.mark.parametrize("fault", ["refused", "unanswered", "lost"])
def test_a_guest_starts_once_when_any_bus_call_fails_once(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("vfagent.systemd.units._REPLY_S", 0.3)
    monkeypatch.setattr("vfagent.guests.unit_monitor._REGISTER_S", 0.3)
    members = ("ListUnitsByPatterns", "StartTransientUnit", "Get", "RegisterMachine")
    script = kernel.tree.root / FAULTS
    script.write_text(json.dumps(dict.fromkeys(members, fault)))
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await agent.until(lambda: json.loads(script.read_text()) == {} and agent.phase() == "running")
        os.kill(agent.pid(), 0)

    run(story)
    assert (kernel.tree.root / BEGUN).read_text() == "vfagent-guest-x.service\n"


def test_a_guest_starts_when_fork_fails_now_and_then(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To list units, to try KVM, to build its ROM and to start it: the first attempt of each finds no process."""
    refused = set[str]()

    original = worker.start

    def start(body: Callable[[Send], None], *, close: tuple[int, ...] = ()) -> Worker:
        caller = body.args[0].__qualname__.split(".")[0] if isinstance(body, partial) else ""
        if caller and caller not in refused:
            refused.add(caller)
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return original(body, close=close)

    monkeypatch.setattr(worker, "start", start)
    monkeypatch.setattr("vfagent.guests.unit_monitor._NO_BUS_S", (0.1,))
    monkeypatch.setattr("vfagent.guests.kvm._AGAIN_S", (0.1, 0.1))
    monkeypatch.setattr("vfagent.guests.roms._AGAIN_S", 0.1)
    (kernel.tree.root / "sys/class/misc/kvm").mkdir(parents=True)
    kernel.tree.policy(ROM)
    fake_ipxe(kernel.tree.root / "usr/src/ipxe")
    kernel.tree.add_pf(PF)
    run(runs)
    assert sorted(refused) == ["Guests", "KvmTrial", "Roms", "UnitMonitor"]


def test_a_guest_with_an_outdated_rule_stays_stopped_by_hand(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        agent.reload(POLICY.replace('name = "x"', 'name = "x"\ncpus = 2'))
        await agent.until(lambda: (guest := agent.guest()) and guest.outdated)
        await agent.guests.request("stop", "x")
        assert agent.phase() == "stopped"
        agent.reconcile()
        await asyncio.sleep(0.5)
        assert agent.phase() == "stopped"

    run(story)
    assert len(started(kernel)) == 1


def test_a_guest_starts_when_kvm_cannot_be_tried(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fake systemd does not know the trial's unit, like a systemd that does not answer for it."""
    monkeypatch.setattr("vfagent.guests.kvm._AGAIN_S", (0.1, 0.1))
    (kernel.tree.root / "sys/class/misc/kvm").mkdir(parents=True)
    kernel.tree.add_pf(PF)
    run(runs)
    probes = [body[0] for body in calls(kernel.tree.root / "calls", "StopUnit") if "probe" in body[0]]
    assert len(probes) == 3
    assert [record.levelname for record in caplog.records if "KVM" in record.message] == ["WARNING", "ERROR"]
    assert json.loads((kernel.tree.root / "run/vfagent/kvm.json").read_text()) is False


def test_a_guest_waits_until_udev_has_loaded_kvm(kernel: FakeKernel, run: Run) -> None:
    """At a boot a NIC's VFs may be ready seconds before kvm_intel is loaded. Only a host without KVM emulates."""
    kernel.tree.add_pf(PF)
    udev_is_busy(kernel)
    put(kernel.tree.root / "sys/devices/system/cpu/modalias", CAN_VIRTUALIZE)

    async def story(agent: Running) -> None:
        await asyncio.sleep(1.5)
        assert not started(kernel)
        (kernel.tree.root / QUEUE).unlink()
        await runs(agent)

    run(story)


def test_a_guest_does_not_wait_for_kvm_for_ever(kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfagent.guests.kvm._LOADED_S", 1.0)
    kernel.tree.add_pf(PF)
    udev_is_busy(kernel)
    put(kernel.tree.root / "sys/devices/system/cpu/modalias", CAN_VIRTUALIZE)
    run(runs)


def test_without_virtualization_a_guest_does_not_wait_for_kvm(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfagent.guests.kvm._LOADED_S", 60.0)
    kernel.tree.add_pf(PF)
    udev_is_busy(kernel)
    put(kernel.tree.root / "sys/devices/system/cpu/modalias", CAN_VIRTUALIZE.replace(",0085,", ","))
    run(runs)


def test_the_next_agent_finds_a_running_guest_and_leaves_it_alone(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    pids = []

    async def story(agent: Running) -> None:
        await runs(agent)
        pids.append(agent.pid())

    run(story)
    shutil.rmtree(kernel.tree.root / "run")
    run(story)
    assert len(started(kernel)) == 1
    assert pids[0] == pids[1]


ROM = POLICY.replace("[[pf]]", '[agent]\nipxe_source = "/usr/src/ipxe"\n[[pf]]', 1) + 'loader = "rom"\n'


def test_a_guest_waits_for_its_rom_until_it_is_built(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.policy(ROM + SECOND)
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.phase("y") == "running" and "Makefile" in str(agent.guest()))
        assert agent.phase() == "waiting"
        fake_ipxe(kernel.tree.root / "usr/src/ipxe")
        agent.guests.reload()
        await runs(agent)

    run(story)
    started = calls(kernel.tree.root / "calls", "StartTransientUnit")
    [rom] = [body for body in started if "iPXE ROM" in str(body)]
    guest = dict(started[-1][2])
    assert dict(rom[2])["PrivateNetwork"] == ["b", True]
    assert Path(dict(guest["LoadCredential"][1])["vf.rom"]).read_bytes().startswith(b"\x55\xaa")


def test_a_chap_secret_is_in_no_message_and_no_property(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.policy(POLICY + '[guest.chap]\nuser = "me"\nsecret = "/etc/vfagent/chap"\n')
    kernel.tree.add_pf(PF)
    secret = kernel.tree.root / "etc/vfagent/chap"

    async def story(agent: Running) -> None:
        await agent.until(lambda: "cannot use it as the CHAP secret: No such file" in str(agent.guest()))
        secret.write_text("open sesame\n")
        secret.chmod(0o644)
        assert "users other than root can read it" in str(await agent.guests.request("start", "x"))
        secret.chmod(0o600)
        assert "is not one line of 1 to 255" in str(await agent.guests.request("start", "x"))
        secret.write_text("opensesame\n")
        assert await agent.guests.request("start", "x") is None
        await runs(agent)

    run(story)
    assert "sesame" not in (kernel.tree.root / "calls").read_text()
    loaded = dict(dict(calls(kernel.tree.root / "calls", "StartTransientUnit")[-1][2])["LoadCredential"][1])
    path = loaded["chap-secret"]
    assert " guest=x " in Path(loaded["command"]).read_text()
    assert Path(path).read_text() == "opensesame"
    assert Path(path).stat().st_mode & 0o077 == 0


def test_a_vnc_password_that_others_can_read_or_vnc_cuts_is_refused(kernel: FakeKernel, run: Run) -> None:
    rule = '[[guest]]\nvnc_remote = "192.0.2.10:0"\nvnc_password = "/etc/vfagent/vnc"'
    kernel.tree.policy(POLICY.replace("[[guest]]", rule))
    kernel.tree.add_pf(PF)
    password = kernel.tree.root / "etc/vfagent/vnc"

    async def story(agent: Running) -> None:
        await agent.until(lambda: "cannot use it as the VNC password: No such file" in str(agent.guest()))
        password.write_text("ninechars\n")
        password.chmod(0o644)
        assert "users other than root can read it" in str(await agent.guests.request("start", "x"))
        password.chmod(0o600)
        assert "is not one line of 1 to 8 " in str(await agent.guests.request("start", "x"))
        password.write_text("opensesa\n")
        assert await agent.guests.request("start", "x") is None
        await runs(agent)

    run(story)
    assert "opensesa" not in (kernel.tree.root / "calls").read_text()
    loaded = dict(dict(calls(kernel.tree.root / "calls", "StartTransientUnit")[-1][2])["LoadCredential"][1])
    assert Path(loaded["vnc-password"]).read_text() == "opensesa"


def test_a_secret_leaves_the_host_with_its_rule(kernel: FakeKernel, run: Run) -> None:
    chap = '[guest.chap]\nuser = "me"\nsecret = "/etc/vfagent/chap"\n'
    kernel.tree.policy(POLICY + chap)
    kernel.tree.add_pf(PF)
    secret = kernel.tree.root / "etc/vfagent/chap"
    secret.write_text("opensesame\n")
    secret.chmod(0o600)
    copies = kernel.tree.root / "run/vfagent/credentials"

    async def story(agent: Running) -> None:
        await runs(agent)
        assert (copies / "x/chap-secret").read_text() == "opensesame"
        agent.reload(POLICY.partition("[[guest]]")[0])
        await agent.until(lambda: agent.guests.guests["x"].placement is None)
        assert (copies / "x/chap-secret").exists(), "systemd reads it again when it restarts the guest"
        assert await agent.guests.request("stop", "x") is None
        await agent.until(lambda: agent.guest() is None)
        assert not list(copies.iterdir())

    run(story)


def test_the_guest_that_uses_a_vf_is_named(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    run(runs)
    pf = observe_pf(kernel.host, PF)
    assert pf
    assert pf_in_use(pf) == ("vf0: guest x has it open through vfio-pci",)


def test_any_vf_means_one_that_no_running_guest_uses(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    run(runs)

    async def second(agent: Running) -> None:
        agent.reload(POLICY + SECOND)
        await agent.until(lambda: agent.phase("y") == "running")
        assert agent.guest("y").vfs == (f"{PF}/vf1",)  # type: ignore[union-attr]

    run(second)


def test_a_guest_that_ended_stays_stopped_for_later_agents_too(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def ends(agent: Running) -> None:
        await runs(agent)
        os.kill(agent.pid(), signal.SIGTERM)
        await agent.until(lambda: agent.phase() == "stopped")

    async def stays(agent: Running) -> None:
        await agent.until(lambda: agent.phase() == "stopped")
        await asyncio.sleep(0.5)
        assert len(started(kernel)) == 1
        assert await agent.guests.request("start", "x") is None
        assert agent.phase() == "running"

    run(ends)
    run(stays)


def test_a_stop_by_hand_reaches_a_guest_that_systemd_has_restarted_since_it_was_listed(
    kernel: FakeKernel, run: Run
) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        pid, guest = agent.pid(), agent.guests.guests["x"]
        assert guest.unit is not None
        guest.unit = replace(guest.unit, active="failed", pid=0)
        assert await agent.guests.request("stop", "x") is None
        await agent.until(lambda: not Path(f"/proc/{pid}").exists())

    run(story)


def test_a_stop_by_hand_reaches_a_guest_that_has_just_been_started(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unit is not listed yet."""
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.phase() == "starting")
        with monkeypatch.context() as slow:
            slow.setattr(agent.guests.units, "refresh", lambda: None)
            assert await agent.guests.request("stop", "x") is None
        agent.guests.units.refresh()
        await agent.until(lambda: agent.guests._current)
        assert agent.phase() == "stopped"

    run(story)


def test_a_guest_stopped_by_hand_stays_stopped_until_its_rule_changes(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        assert await agent.guests.request("stop", "x") is None
        assert agent.phase() == "stopped"
        agent.reconcile()
        await asyncio.sleep(0.5)
        assert agent.phase() == "stopped"
        agent.reload(POLICY.replace('name = "x"', 'name = "x"\ncpus = 2'))
        await runs(agent)

    run(story)


class Journal:
    """A journal of one unit, read from its end."""

    def __init__(self) -> None:
        printed = ("qemu-system-x86_64: Could not open '/srv/a\x1b[2J': Permission denied", "login: ", b"\xff")
        self.entries = [{"MESSAGE": text} for text in ("qemu-system-x86_64: warning: old", *printed)]
        self.matches: dict[str, str] = {}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.matches == {"_SYSTEMD_UNIT": "vfagent-guest-x.service"}

    def this_boot(self) -> None: ...

    def seek_tail(self) -> None: ...

    def add_match(self, **match: str) -> None:
        self.matches |= match

    def get_previous(self) -> dict[str, Any]:
        return self.entries.pop() if self.entries else {}


def test_a_guest_that_systemd_no_longer_restarts_has_failed(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("systemd.journal.Reader", Journal)
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        os.kill(agent.pid(), signal.SIGKILL)
        await agent.until(lambda: agent.phase() == "failed")
        last = "its unit failed: signal: Could not open '/srv/a\\x1b[2J': Permission denied"
        await agent.until(lambda: agent.guest().detail == last)  # type: ignore[union-attr]
        await asyncio.sleep(0.5)
        assert len(started(kernel)) == 1
        assert await agent.guests.request("start", "x") is None
        await runs(agent)

    run(story)


def test_a_changed_rule_does_not_disturb_a_running_guest(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        pid = agent.pid()
        agent.reload(POLICY.replace('name = "x"', 'name = "x"\ncpus = 2'))
        await agent.until(lambda: agent.guest().outdated)  # type: ignore[union-attr]
        agent.reload(POLICY.partition("[[guest]]")[0])
        await agent.until(lambda: agent.guest().detail)  # type: ignore[union-attr]
        assert (agent.phase(), agent.pid()) == ("running", pid)

    run(story)


def test_a_removed_vf_stops_its_guest_until_the_vf_is_back(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        vf = kernel.tree.vfs(PF)[0]
        kernel.tree.bind(vf, None)  # as a removal that waits for its user leaves it
        agent.guests.check_vfs()
        await agent.until(lambda: agent.phase() == "waiting")
        agent.reconcile()
        await runs(agent)

    run(story)
    assert len(started(kernel)) == 2


def test_a_kernel_without_an_event_for_a_removed_vf_is_asked_while_a_guest_runs(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.tree.add_pf(PF)
    asked: list[str | None] = []

    async def story(agent: Running) -> None:
        monkeypatch.setattr(agent.guests, "check_vfs", lambda: asked.append(agent.phase()))
        agent.guests.vf_check_s = 0.05
        await agent.until(lambda: len(asked) >= 2)
        assert set(asked) == {"running"}

    run(story)


@pytest.mark.parametrize(("release", "interval_s"), [("6.1.0-25-amd64", 15.0), ("6.6.1", 0.0), ("6.12.1", 0.0)])
def test_only_kernels_before_6_6_are_asked(
    kernel: FakeKernel, run: Run, release: str, interval_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "node1", release, "#1 SMP", "x86_64")))

    async def story(agent: Running) -> None:
        assert agent.guests.vf_check_s == interval_s

    run(story)


def test_a_guest_waits_for_a_vf_in_use(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def first(agent: Running) -> None:
        agent.guests.consider_soon = lambda delay_s=0.0: None  # type: ignore[method-assign]
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)

    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.phase() == "waiting")
        assert "has it open through vfio-pci" in (agent.guest().detail or "")  # type: ignore[union-attr]
        enable.write_text("0")
        agent.reconcile()
        await runs(agent)

    run(first)
    enable = kernel.tree.device(kernel.tree.vfs(PF)[0]) / "enable"
    enable.write_text("1")
    run(story)


def test_a_guest_can_be_started_right_after_it_ended(kernel: FakeKernel, run: Run) -> None:
    """Its VF was in use when it was last observed, and no event reports that it is not any more."""
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        agent.reconcile()
        await agent.until(lambda: agent.scheduler.idle)
        os.kill(agent.pid(), signal.SIGKILL)
        await agent.until(lambda: agent.phase() == "failed")
        assert await agent.guests.request("start", "x") is None
        assert agent.phase() == "running"

    run(story)


def test_guests_wait_for_the_bus_and_start_when_it_is_up(kernel: FakeKernel) -> None:
    kernel.tree.add_pf(PF)

    async def story() -> None:
        agent = Running(kernel, f"unix:path={kernel.tree.root}/bus")
        agent.reconcile()
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)
        await asyncio.sleep(0.3)
        assert agent.guests.status() == ()
        with fake_systemd(kernel.tree.root):
            await runs(agent)
            await agent.stop()

    run_to_end(story())


@pytest.mark.parametrize("what", ["KVM", "ROM"])
def test_a_bus_socket_that_nobody_serves_decides_nothing(
    kernel: FakeKernel, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As dbus.socket leaves its path where dbus.service failed too often at the boot."""
    monkeypatch.setattr("vfagent.guests.kvm._AGAIN_S", (0.05, 0.05))
    monkeypatch.setattr("vfagent.guests.roms._NOT_BEGUN_S", 0.05)
    if what == "KVM":
        (kernel.tree.root / "sys/class/misc/kvm").mkdir(parents=True)
    else:
        kernel.tree.policy(ROM)
        fake_ipxe(kernel.tree.root / "usr/src/ipxe")
    kernel.tree.add_pf(PF)
    path = kernel.tree.root / "bus"

    async def story() -> None:
        agent = Running(kernel, f"unix:path={path}")
        agent.reconcile()
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)
        await asyncio.sleep(0.3)  # so that it has seen that there is no bus
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(path))
            await agent.until(lambda: what in caplog.text)
            await asyncio.sleep(1)  # twenty times the wait between two trials
        assert not (kernel.tree.root / "run/vfagent/kvm.json").exists()
        assert agent.phase() == "waiting"
        with fake_systemd(kernel.tree.root):  # in the place of what is there
            await runs(agent)
            await agent.stop()

    run_to_end(story())
    assert len([record for record in caplog.records if "cannot connect" in record.message]) == 1


@pytest.mark.parametrize(("recorded", "listings"), [(False, 0), (True, 1)])
def test_at_boot_units_are_listed_only_if_a_guest_may_already_run(
    kernel: FakeKernel, *, recorded: bool, listings: int
) -> None:
    kernel.tree.add_pf(PF)
    if recorded:
        GuestRecords(kernel.tree.root).keep("z", Record("rule"))

    async def story() -> None:
        agent = Running(kernel, f"unix:path={kernel.tree.root}/bus")
        agent.reconcile()
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)
        await asyncio.sleep(0.3)  # so that it has seen that there is no bus
        with fake_systemd(kernel.tree.root):
            await runs(agent)
            await agent.stop()

    run_to_end(story())
    members = [json.loads(line)[0] for line in (kernel.tree.root / "calls").read_text().splitlines()]
    assert members[: members.index("StartTransientUnit")].count("ListUnitsByPatterns") == listings


@pytest.mark.parametrize("folder", [".", "later"])
def test_waiting_for_the_bus_takes_no_worker(kernel: FakeKernel, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.tree.add_pf(PF)
    bus, workers = kernel.tree.root / folder / "bus", list[Worker]()

    def counted(body: Callable[[Send], None], *, close: tuple[int, ...] = ()) -> Worker:
        workers.append(begin(body, close=close))
        return workers[-1]

    async def story() -> None:
        agent = Running(kernel, f"unix:path={bus}")
        agent.reconcile()
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)
        monkeypatch.setattr(worker, "start", counted)
        await asyncio.sleep(0.5)
        assert workers == []
        with fake_systemd(kernel.tree.root):
            if folder != ".":
                bus.parent.mkdir()
                bus.symlink_to("../bus")
            await agent.until(lambda: agent.phase() == "running")
            await agent.stop()

    begin = worker.start
    run_to_end(story())


def test_a_missing_bus_is_logged_once(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.tree.add_pf(PF)
    monkeypatch.setattr("vfagent.guests.unit_monitor._BUS_S", 0.2)

    async def story() -> None:
        agent = Running(kernel, f"unix:path={kernel.tree.root}/bus")
        agent.reconcile()
        await agent.until(lambda: "does not exist" in caplog.text)
        agent.reconcile()
        await asyncio.sleep(0.5)
        await agent.stop()

    run_to_end(story())
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == [f"guests: waiting for D-Bus: {kernel.tree.root}/bus does not exist"]


def test_a_host_without_guests_calls_nothing_on_the_bus(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    kernel.tree.policy(POLICY.partition("[[guest]]")[0])

    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)
        await asyncio.sleep(0.3)

    run(story)
    assert (kernel.tree.root / "calls").read_text() == ""


def tells(kernel: FakeKernel, status: int) -> None:
    """What ask-guest exits with: 64 for a guest that runs, 65 if it was paused by hand, 66 after an error of a disk."""
    (kernel.tree.root / RUN_STATES).write_text(json.dumps({"vfagent-guest-x.service": status}))


@pytest.mark.parametrize(("restart", "status"), [("no", 66), ("on-failure", 65)])
def test_a_guest_that_qemu_has_paused_is_reported(
    kernel: FakeKernel, run: Run, restart: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody restarts it: its rule says so, or somebody paused it on purpose."""
    kernel.tree.policy(POLICY.replace("[guest.ipxe]", f'restart = "{restart}"\n[guest.ipxe]'))
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        tells(kernel, status)
        agent.guests.pauses.ask()
        await agent.until(lambda: agent.phase() == "paused")
        assert "QEMU has paused it" in str(agent.guest().detail)  # type: ignore[union-attr]
        agent.guests.pauses.ask()
        agent.reconcile()
        await agent.until(lambda: len(calls(kernel.tree.root / "calls", "ReloadUnit")) == 2)
        assert agent.phase() == "paused"
        tells(kernel, 64)
        agent.guests.pauses.ask()  # while its QEMU is being asked already
        await agent.until(lambda: agent.phase() == "running")

    run(story)
    assert calls(kernel.tree.root / "calls", "KillUnit") == []
    assert caplog.text.count("QEMU has paused it") == 1


def test_a_guest_paused_after_an_error_is_killed_where_systemd_restarts_it(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        tells(kernel, 67)
        agent.guests.pauses.ask()
        await agent.until(lambda: agent.phase() != "running")

    run(story)
    unit = "vfagent-guest-x.service"
    assert calls(kernel.tree.root / "calls", "KillUnit") == [[unit, "main", signal.SIGKILL]]


def test_an_event_of_a_guests_vf_asks_its_qemu(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        (vf,) = agent.guests.guests["x"].held
        tells(kernel, 65)
        agent.guests.vf_event(PciAddress("0000:99:00.0"))
        await asyncio.sleep(1.2)
        assert agent.phase() == "running"
        agent.guests.vf_event(vf)
        agent.guests.vf_event(vf)
        await agent.until(lambda: agent.phase() == "paused")

    run(story)
    assert len(calls(kernel.tree.root / "calls", "ReloadUnit")) == 1


def test_an_event_while_guests_are_asked_is_not_lost(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfagent.guests.pauses._SOONEST_S", 0.1)
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        agent.guests.pauses.ask()
        agent.guests.pauses.ask()
        tells(kernel, 65)
        await agent.until(lambda: len(calls(kernel.tree.root / "calls", "ReloadUnit")) == 2)
        await agent.until(lambda: agent.phase() == "paused")

    run(story)


def test_a_paused_guest_is_found_when_the_service_starts(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    run(runs)
    tells(kernel, 65)

    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.phase() == "paused")

    run(story)


def test_a_guest_of_an_earlier_version_that_cannot_be_asked_runs(kernel: FakeKernel, run: Run, bus: str) -> None:
    kernel.tree.add_pf(PF)
    tells(kernel, 67)

    async def story(agent: Running) -> None:
        await runs(agent)
        (kernel.tree.root / FAULTS).write_text('{"ReloadUnit": "refused"}')
        agent.guests.pauses.ask()
        await agent.until(lambda: calls(kernel.tree.root / "calls", "ReloadUnit"))
        await asyncio.sleep(0.3)
        assert agent.phase() == "running"

    run(story)
