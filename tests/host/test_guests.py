# SPDX-License-Identifier: Apache-2.0
"""When guests start: after their files, disks, VFs and VFIO groups, in their order, a few at a time."""

import asyncio
import shlex
import stat
import uuid
from functools import partial
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.fake_systemd import AWAY
from tests.host.guest_rig import (
    PF,
    POLICY,
    SECOND,
    Run,
    Running,
    bus,
    kernel,
    run,
    runs,
    started,
    started_by,
    udev_is_busy,
)
from tests.host.test_units import calls
from tests.host.tree import put
from vfagent.guests.state import Job
from vfagent.kernel import vfio_group
from vfagent.model.ends_by import GuestEndsBy
from vfagent.model.status import MOST_ATTEMPTS

__all__ = ["bus", "kernel", "run"]

VF_KNOWN = "usr/lib/systemd/system/vfagent-vf@.target"


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
    assert "vfagent-guest@nas.target" in {name: value for name, (_, value) in body[2]}["After"]


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


def test_a_guest_whose_tpm_does_not_start_names_the_unit_of_the_tpm(
    kernel: FakeKernel, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.tree.policy(POLICY.replace('name = "x"', 'name = "alone"\ntpm = true'))
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await agent.until(lambda: "job ended as dependency" in caplog.text)

    run(story)
    assert "journalctl -u vfagent-tpm@alone.service" in caplog.text
    assert stat.S_IMODE((kernel.tree.root / "run/vfagent/tpm").stat().st_mode) == 0o700


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
