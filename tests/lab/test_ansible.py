# SPDX-License-Identifier: Apache-2.0
"""The Ansible role on two hosts: a rollout, a repeated one, and policies that fail."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.environment import PINNED
from tests.lab.cache import built
from tests.lab.facts import vfs
from tests.lab.install import REPOSITORY
from tests.lab.nic import Igb
from tests.lab.package import deb, package
from tests.lab.payload import Entry
from tests.lab.test_one_card import hold
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM
from vfagent import __version__

pytestmark = pytest.mark.long

ROLE = REPOSITORY / "packaging/ansible"
TOOLS = Path(__file__).with_name("ansible.txt")
# The role's README has both.
DRY_RUN = "ansible-playbook --inventory hosts site.yml --check --diff"
PLAY = "ansible-playbook --inventory hosts site.yml"
PF = "0000:01:00.0"
POLICY = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 4\n\n[[pf.vf]]\nindex = "*"\ndriver = "vfio-pci"\n'


@pytest.fixture(scope="module")
def programs() -> Path:
    """Ansible, from PyPI."""

    def make(work: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--target", str(work / "lib"), *PINNED, str(TOOLS)], check=True)

    return built("ansible", {"tools": TOOLS.read_text(), "python": sys.executable}, make) / "lib"


def run(programs: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{programs}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(programs),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    argv = [str(programs / "bin" / program), *arguments]
    return subprocess.run(argv, cwd=ROLE, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def hosts(boot_module: Callable[..., VM]) -> dict[str, VM]:
    tree = {"/usr/lib/vf_user.py": Entry(VF_USER)}
    return {name: boot_module([Igb(f"igb-{name}")], tree, hypervisor=True, memory_mib=1536) for name in ("one", "two")}


class Fleet:
    """Runs ansible-playbook with a policy on the hosts."""

    def __init__(self, programs: Path, hosts: dict[str, VM], folder: Path) -> None:
        self._programs, self._folder = programs, folder
        lines = ["[hypervisors]", *(_inventory_line(name, vm) for name, vm in hosts.items())]
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        self._deb = deb(package(__version__))

    def roll_out(
        self, policy: str | None, *options: str, play: str = PLAY, **drop_ins: str
    ) -> subprocess.CompletedProcess[str]:
        given = {} if policy is None else {"vfagent_policy": policy}
        checksum = hashlib.sha256(self._deb.read_bytes()).hexdigest()
        package = {"vfagent_deb": str(self._deb), "vfagent_deb_sha256": checksum}
        variables = json.dumps({**package, "vfagent_drop_ins": drop_ins, **given})
        inventory = str(self._folder / "hosts")
        program, *arguments = [inventory if word == "hosts" else word for word in shlex.split(play)]
        return run(self._programs, program, *arguments, "--extra-vars", variables, *options)


def _inventory_line(name: str, vm: VM) -> str:
    ssh = " ".join(vm.remote.argv()[1:-1])
    return (
        f"{name} ansible_host=127.0.0.1 ansible_user=root ansible_ssh_args='{ssh}' ansible_python_interpreter=python3"
    )


@pytest.fixture
def fleet(programs: Path, hosts: dict[str, VM], tmp_path: Path) -> Fleet:
    return Fleet(programs, hosts, tmp_path)


def drivers(vm: VM) -> list[str]:
    return [vf.driver for vf in vfs(vm, PF)]


def drop_ins(vm: VM) -> str:
    return vm.run("ls /etc/vfagent/policy.d").stdout


def test_ansible_lint_finds_nothing(programs: Path) -> None:
    done = run(programs, "ansible-lint", "--offline", "--profile", "production")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_dry_run_on_new_hosts_passes_and_changes_nothing(fleet: Fleet, hosts: dict[str, VM]) -> None:
    done = fleet.roll_out(POLICY, play=DRY_RUN)
    assert done.returncode == 0, done.stdout
    for vm in hosts.values():
        vm.run("! test -e /etc/vfagent && ! test -e /usr/bin/vfagent")


@pytest.mark.parametrize(("checksum", "cause"), [("", "needs vfagent_deb_sha256"), ("0" * 64, "has the SHA-256")])
def test_a_package_with_another_checksum_is_not_installed(
    fleet: Fleet, hosts: dict[str, VM], checksum: str, cause: str
) -> None:
    done = fleet.roll_out(POLICY, "--extra-vars", json.dumps({"vfagent_deb_sha256": checksum}))
    assert done.returncode != 0
    assert cause in done.stdout
    for vm in hosts.values():
        vm.run("! test -e /usr/bin/vfagent")


def test_after_a_rollout_each_host_has_converged(fleet: Fleet, hosts: dict[str, VM]) -> None:
    done = fleet.roll_out(POLICY)
    assert done.returncode == 0, done.stdout
    assert [drivers(vm) for vm in hosts.values()] == [["vfio-pci"] * 4] * 2


def test_a_repeated_rollout_changes_nothing(fleet: Fleet) -> None:
    done = fleet.roll_out(POLICY)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("changed=0") == 2


def test_a_drop_in_is_added_and_removed_without_policy_toml(fleet: Fleet, hosts: dict[str, VM]) -> None:
    resync = '[agent]\nresync = "10min"\n'
    done = fleet.roll_out(None, resync=resync)
    assert done.returncode == 0, done.stdout
    for vm in hosts.values():
        assert vm.get("/etc/vfagent/policy.toml").decode() == POLICY
        assert vm.get("/etc/vfagent/policy.d/resync.toml").decode().endswith(resync)
    done = fleet.roll_out(None)
    assert done.returncode == 0, done.stdout
    assert [drop_ins(vm) for vm in hosts.values()] == ["", ""]


def test_files_that_are_invalid_only_together_are_restored(fleet: Fleet, hosts: dict[str, VM]) -> None:
    done = fleet.roll_out(POLICY, again=POLICY)
    assert done.returncode != 0
    assert [drop_ins(vm) for vm in hosts.values()] == ["", ""]
    assert [vm.get("/etc/vfagent/policy.toml").decode() for vm in hosts.values()] == [POLICY] * 2


def test_an_invalid_policy_reaches_no_host(fleet: Fleet, hosts: dict[str, VM]) -> None:
    done = fleet.roll_out(POLICY.replace("vfs", "vsf"))
    assert done.returncode != 0
    assert [vm.get("/etc/vfagent/policy.toml").decode() for vm in hosts.values()] == [POLICY] * 2


def test_a_policy_that_waits_for_a_guest_stops_at_the_first_host(fleet: Fleet, hosts: dict[str, VM]) -> None:
    first = hosts["one"]
    hold(first, vfs(first, PF)[0])
    done = fleet.roll_out(POLICY.replace("vfs = 4", "vfs = 2"))
    assert done.returncode != 0
    assert "vf0: a process has it open through vfio-pci" in done.stdout
    assert [vm.get("/etc/vfagent/policy.toml").decode() for vm in hosts.values()] == [POLICY] * 2
    assert first.run("vfagent status").returncode == 0
    assert [drivers(vm) for vm in hosts.values()] == [["vfio-pci"] * 4] * 2
