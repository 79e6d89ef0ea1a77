# SPDX-License-Identifier: Apache-2.0
"""The command line beside the running service, as a user without rights: what is no secret is shown."""

import importlib
import json
import os
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vfagent
from tests.host.fake_kernel import FakeKernel
from tests.host.test_agent import PF, Service, Start, start
from vfagent.cli.main import main
from vfagent.cli.status_file import lock_is_held
from vfagent.guests.credentials import store_command
from vfagent.guests.spec.boot import Boot, Loader
from vfagent.guests.spec.qemu import Guest
from vfagent.guests.spec.unit import rule_digest
from vfagent.model.pci import PciAddress
from vfagent.policy.types import GuestRule
from vfagent.store.guest_records import GuestRecords, Record
from vfagent.store.locks import take_lock
from vfagent.store.move_journal import MoveJournal
from vfagent.store.policy_files import load
from vfagent.store.state import State

__all__ = ["start"]
pytestmark = pytest.mark.usefixtures("kernel")

NOBODY = 65534
POLICY = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nassume_idle = true\nvfs = 2\n'
GUEST = """
[[pf.vf]]
driver = "vfio-pci"
[[guest]]
name = "web"
vfs = ["all:0"]
[guest.ipxe]
address = "dhcp"
"""


@pytest.fixture
def files() -> Iterator[FakeKernel]:
    """In a folder that every user may enter; those of pytest belong to root alone. As systemd makes /run/vfagent."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        files = FakeKernel(Path(name) / "root")
        files.tree.policy(POLICY)
        files.tree.add_pf(PF)
        (files.tree.root / "run/vfagent").mkdir(parents=True)
        (files.tree.root / "run/vfagent").chmod(0o711)
        yield files


@pytest.fixture
def service(files: FakeKernel, start: Start) -> Service:
    umask = os.umask(0o027)  # the unit's
    service = start().ready()
    os.umask(umask)
    service.until(lambda: service.status["ready"])
    return service


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """All modules: this user may be unable to enter the folder of the sources."""
    for module in pkgutil.walk_packages(vfagent.__path__, "vfagent."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    monkeypatch.setattr("vfagent.cli.main.require_own_host", lambda *_: None)


def as_nobody(act: Callable[[], int]) -> tuple[int, str]:
    """The status of a process without rights, and what it printed."""
    with tempfile.TemporaryFile() as output:
        if (pid := os.fork()) == 0:
            status = 99
            try:
                for stream in (1, 2):
                    os.dup2(output.fileno(), stream)
                sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                status = act()
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        return status, output.read().decode()


def vfagent_(root: Path, verb: str, *options: str) -> tuple[int, str]:
    return as_nobody(lambda: main([verb, "--root", str(root), *options]))


def test_others_read_the_status_and_the_policy(service: Service) -> None:
    root = service.root
    assert vfagent_(root, "list")[0] == 0
    status, text = vfagent_(root, "status", "--json")
    assert (status, json.loads(text)["pfs"][0]["vfs_actual"]) == (0, 2)
    assert "2 of 2 VFs" in vfagent_(root, "status")[1]
    assert vfagent_(root, "check")[0] == 0
    assert vfagent_(root, "guest", "list") == (0, "no guests\n")
    assert "vfs = 2" in vfagent_(root, "init")[1]


def test_others_see_the_same_plan_as_root(
    files: FakeKernel, service: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also of what is only known from the state: a PF that was released, a guest that was stopped by hand."""
    files.tree.policy(POLICY.replace("vfs = 2", "vfs = 4") + GUEST)
    (rule,) = load(files.tree.root).guest
    umask = os.umask(0o027)
    GuestRecords(files.tree.root).keep("web", Record(rule_digest(rule), "it was stopped by hand"))
    State(files.tree.root).release(PciAddress(PF))
    os.umask(umask)
    status = main(["plan", "--root", str(files.tree.root), "--json"])
    plan = capfd.readouterr().out
    assert vfagent_(files.tree.root, "plan", "--json") == (status, plan)
    assert "it was stopped by hand" in plan


def test_a_plan_without_root_says_what_it_cannot_see(files: FakeKernel) -> None:
    files.tree.policy(POLICY + GUEST)
    (files.tree.root / "usr/bin").mkdir(parents=True)
    assert "not as root: guests' files in folders" in vfagent_(files.tree.root, "plan")[1]


@pytest.mark.parametrize("words", [("apply",), ("reload",), ("confirm",), ("guest", "start", "web")], ids=" ".join)
def test_what_changes_something_is_refused_and_says_what_to_do(service: Service, words: tuple[str, ...]) -> None:
    status, text = vfagent_(service.root, *words)
    assert (status, "refuses it\n  (run it as root)" in text) == (1, True)


def test_others_see_whether_the_service_runs(service: Service) -> None:
    root = service.root
    assert as_nobody(lambda: lock_is_held(root))[0] == 1
    service.stop()
    assert as_nobody(lambda: lock_is_held(root))[0] == 0


def test_others_cannot_hold_a_lock_of_the_service(files: FakeKernel, service: Service) -> None:
    """Each file or folder that they could open, they could flock(2)."""
    root = files.tree.root
    with MoveJournal(root).alone():
        pass
    service.stop()
    os.close(take_lock(root / "run/vfagent"))
    locks = [root / "run/vfagent", root / "run/vfagent/moves.lock", *(root / "run/vfagent/changing").iterdir()]
    assert len(locks) == 3
    for path in locks:
        assert as_nobody(lambda path=path: os.access(path, os.R_OK) or os.access(path, os.W_OK))[0] == 0  # type: ignore[misc]


def test_others_read_no_credential(files: FakeKernel) -> None:
    """Whatever the umask; in `apply` it is the administrator's."""
    umask = os.umask(0)
    rule = GuestRule(name="web")
    store_command(files.tree.root, Guest(rule, (), Boot(Loader.DISK), kvm=True, uuid="u", machine="pc-q35-7.2"))
    os.umask(umask)
    (copy,) = (files.tree.root / "run/vfagent/credentials/web").iterdir()
    assert as_nobody(lambda: os.access(copy, os.R_OK))[0] == 0
    assert copy.stat().st_mode & 0o077 == 0
