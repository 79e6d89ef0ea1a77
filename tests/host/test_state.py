# SPDX-License-Identifier: Apache-2.0
"""State files: written atomically, and never trusted."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute, LinkState, Rate, VfSettings, Vlan, VlanProtocol
from vfagent.store.guest_records import GuestRecords
from vfagent.store.state import Baseline, State, write_json

PF = PciAddress("0000:01:00.0")
SETTINGS = VfSettings(
    mac="02:00:00:00:00:01",
    vlan=Vlan(7, 3, VlanProtocol.DOT1AD),
    rate=Rate(0, 1000),
    spoof_check=True,
    trust=False,
    link_state=LinkState.AUTO,
)
NETDEV = Netdev("ens1", 2, "02:00:00:00:00:02", "02:00:00:00:00:03", 1500, admin_up=True, management="a route")
WHOLE = Pf(
    address=PF,
    driver="igb",
    vendor="0x8086",
    device="0x10c9",
    pci_class="0x020000",
    totalvfs=7,
    autoprobe=True,
    vfs=(Vf(0, PciAddress("0000:01:10.0"), "igbvf", iommu_group=4, netdevs=(NETDEV,), settings=SETTINGS),),
    netdev=NETDEV,
    numa_node=1,
)


def test_a_baseline_is_read_as_it_was_stored(tmp_path: Path) -> None:
    State(tmp_path).keep_baseline(WHOLE)
    assert State(tmp_path).baseline(PF) == Baseline(WHOLE)


def test_the_first_baseline_of_a_card_is_kept(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.keep_baseline(WHOLE)
    state.keep_baseline(replace(WHOLE, vfs=(), autoprobe=False))
    assert state.baseline(PF) == Baseline(WHOLE)


def test_another_card_in_the_same_slot_gets_a_new_baseline(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.keep_baseline(WHOLE)
    other = replace(WHOLE, netdev=replace(NETDEV, permanent_mac="02:00:00:00:00:99"))
    state.keep_baseline(other)
    assert state.baseline(PF) == Baseline(other)


def test_a_forgotten_baseline_is_none(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.keep_baseline(WHOLE)
    state.forget_baseline(PF)
    state.forget_baseline(PF)
    assert state.baseline(PF) is None


def test_a_driver_state_is_read_as_it_was_stored(tmp_path: Path) -> None:
    driver_state = DriverState(
        driver="igb",
        ifindex=2,
        unsupported={Attribute.TRUST: "EOPNOTSUPP", Attribute.MIN_TX_RATE: "EINVAL"},
        applied={0: SETTINGS, 12: VfSettings()},
    )
    State(tmp_path).keep_driver_state(PF, driver_state)
    assert State(tmp_path).driver_state(PF) == driver_state


def test_a_pf_is_released_until_it_is_taken_back(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert state.released() == frozenset()
    state.release(PF)
    assert State(tmp_path).released() == {PF}
    state.take_back(PF)
    assert State(tmp_path).released() == frozenset()


DAMAGE = {
    "empty": b"",
    "truncated": b'{"pf": {"address": "0000:01',
    "binary": bytes(range(256)),
    "another shape": b"[1, 2, 3]",
    "a number": b"7",
    "null": b"null",
    "keys missing": b'{"pf": {}, "applied": {"x": 1}}',
    "a wrong type": b'{"driver": 5, "ifindex": "x", "pf": 1, "unsupported": 3}',
    "of an unknown attribute": b'{"unsupported": ["warp"], "pf": null}',
    "nested too deeply": b"[" * 100_000,
    "oversized": b'{"x": "' + b"y" * (5 << 20) + b'"}',
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("what", ["baseline", "driver-state"])
def test_a_damaged_file_counts_as_absent_with_one_warning(
    tmp_path: Path, what: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / {"baseline": "var/lib/vfagent/baseline", "driver-state": "run/vfagent/driver-state"}[what]
    folder.mkdir(parents=True)
    (folder / f"{PF}.json").write_bytes(content)
    state = State(tmp_path)
    stored = state.baseline(PF) if what == "baseline" else state.driver_state(PF)
    assert stored == (None if what == "baseline" else DriverState())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"PF {PF}: ignoring the unusable state file {folder / PF}.json: ")
    assert vars(record)["VFAGENT_PF"] == PF


def test_unknown_keys_of_a_later_version_are_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = State(tmp_path)
    state.keep_driver_state(PF, DriverState("igb", 2))
    path = tmp_path / f"run/vfagent/driver-state/{PF}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tomorrow": [1]}))
    assert state.driver_state(PF) == DriverState("igb", 2)
    assert not caplog.records


def test_a_damaged_baseline_is_replaced(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.keep_baseline(WHOLE)
    (tmp_path / f"var/lib/vfagent/baseline/{PF}.json").write_bytes(b"{")
    state.keep_baseline(WHOLE)
    assert state.baseline(PF) == Baseline(WHOLE)


def test_a_failed_write_leaves_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_json(path, {"pfs": 1})
    with pytest.raises(TypeError):
        write_json(path, {"pfs": {1, 2}})
    assert path.read_text() == '{"pfs":1}'


def test_a_full_disk_is_an_oserror_and_leaves_no_half_file(tmp_path: Path) -> None:
    """A file size limit answers EFBIG where a full disk answers ENOSPC, at the same place."""
    import resource
    import signal

    path = tmp_path / "status.json"
    write_json(path, {"pfs": 1})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError):
            write_json(path, {"text": "x" * 100_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_text() == '{"pfs":1}'
    assert os.listdir(tmp_path) == ["status.json"]


def test_readers_never_see_a_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_json(path, {"round": 0, "text": ""})
    pid = os.fork()
    if pid == 0:
        for number in range(1, 300):
            write_json(path, {"round": number, "text": "x" * (number * 300)})
        os._exit(0)
    last_seen = 0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        content = json.loads(path.read_text())
        assert len(content["text"]) == content["round"] * 300
        last_seen = max(last_seen, content["round"])
    assert json.loads(path.read_text())["round"] == 299
    assert last_seen


def test_a_folder_that_cannot_be_written_to_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("not a folder")
    with pytest.raises(OSError):
        State(tmp_path).keep_baseline(WHOLE)
    assert State(tmp_path).baseline(PF) is None


def test_a_symbolic_link_at_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    """Else another user could make root overwrite any file."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".status.json.{os.getpid()}").symlink_to(victim)
    with pytest.raises(OSError):
        write_json(tmp_path / "status.json", {"a": 1})
    assert victim.read_text() == "precious"


def test_a_guest_record_that_cannot_be_removed_is_logged_with_its_guest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run/vfagent/guests/web.json").mkdir(parents=True)
    GuestRecords(tmp_path).forget("web")
    (record,) = caplog.records
    assert record.getMessage() == "guest web: cannot remove its record: Is a directory"
    assert vars(record)["VFAGENT_GUEST"] == "web"


def test_a_state_file_is_not_readable_by_others(tmp_path: Path) -> None:
    write_json(tmp_path / "status.json", {})
    assert (tmp_path / "status.json").stat().st_mode & 0o007 == 0


@pytest.fixture(autouse=True)
def warnings_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_record_of_a_guest_or_of_kvm_counts_as_absent(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run/vfagent/guests").mkdir(parents=True)
    (tmp_path / "run/vfagent/guests/web.json").write_bytes(content)
    (tmp_path / "run/vfagent/kvm.json").write_bytes(content)
    records = GuestRecords(tmp_path)
    assert (records.get("web"), records.all(), records.kvm()) == (None, {}, None)
