# SPDX-License-Identifier: Apache-2.0
"""Looks that begin while the service is still being loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.tree import put
from vfagent.errors import VfagentError
from vfagent.kernel.udev import STORED
from vfagent.model.pci import PciAddress
from vfagent.service.preload import Preload, start_preload
from vfagent.store.state import State

PF, SIBLING, OTHER = PciAddress("0000:01:00.0"), PciAddress("0000:01:00.1"), PciAddress("0000:02:00.0")
POLICY = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 2\n'


@pytest.fixture
def files(tmp_path: Path) -> FakeKernel:
    files = FakeKernel(tmp_path)
    files.tree.policy(POLICY)
    return files


def known_to_udev(files: FakeKernel, address: PciAddress, *, interface: str = "") -> None:
    """A PF that udev has done with, but for its netdev."""
    files.tree.add_pf(address, interface=interface)
    put(files.tree.root / STORED / f"+pci:{address}", "")


def load(files: FakeKernel) -> Preload:
    """To the end of what was begun. There is no loop."""
    early = start_preload(files.host, files.tree.root)
    early.load_the_rest()
    for child in early.begun.values():
        assert child.ends_within(10.0)
        child.close()
    os.close(early.lock)
    return early


def test_a_pf_that_udev_is_done_with_has_its_vfs_before_there_is_a_loop(files: FakeKernel) -> None:
    known_to_udev(files, PF)
    known_to_udev(files, OTHER)
    assert set(load(files).begun) == {PF, OTHER}
    assert [len(files.tree.vfs(address)) for address in (PF, OTHER)] == [2, 2]


def test_ports_of_one_card_take_turns_here_too(files: FakeKernel) -> None:
    known_to_udev(files, PF)
    known_to_udev(files, SIBLING)
    assert len(load(files).begun) == 1


def test_a_nic_is_left_alone_until_udev_is_done_with_its_netdev(files: FakeKernel) -> None:
    known_to_udev(files, PF, interface="ens1")
    assert not load(files).begun
    put(files.tree.root / STORED / "n1", "")
    assert set(load(files).begun) == {PF}


def test_a_nic_without_a_netdev_is_left_to_the_loop(files: FakeKernel) -> None:
    known_to_udev(files, PF)
    files.tree.add_device(PF, **{"class": "0x020000"})
    assert not load(files).begun


def test_a_pf_that_udev_has_still_to_do_with_is_left_to_the_loop(files: FakeKernel) -> None:
    files.tree.add_pf(PF)  # not stored
    known_to_udev(files, OTHER)
    files.tree.bind(OTHER, None)
    assert not load(files).begun


def test_a_released_pf_is_left_alone(files: FakeKernel) -> None:
    known_to_udev(files, PF)
    State(files.tree.root).release(PF)
    assert not load(files).begun
    assert not files.writes()


@pytest.mark.parametrize("policy", ["", "[[pf]\n", '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = "two"\n'])
def test_without_a_good_policy_nothing_is_begun(files: FakeKernel, policy: str) -> None:
    known_to_udev(files, PF)
    files.tree.policy(policy)
    assert not load(files).begun


def test_beside_another_agent_nothing_is_begun(files: FakeKernel) -> None:
    first = start_preload(files.host, files.tree.root)
    known_to_udev(files, PF)
    with pytest.raises(VfagentError, match="another one is running"):
        load(files)
    os.close(first.lock)
    assert not files.writes()
    assert load(files).begun


def test_a_look_needs_no_loop_to_be_loaded() -> None:
    """Nor pyroute2, where it is only about VFs: with them the first VFs would be there half as soon."""
    program = "import sys; from vfagent.store.identity import open_host; import vfagent.service.preload; open_host()"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert not {"asyncio", "ssl", "pyroute2", "jeepney", "prometheus_client"} & set(done.stdout.split())
