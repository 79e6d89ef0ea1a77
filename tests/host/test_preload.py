# SPDX-License-Identifier: Apache-2.0
"""Reconciles that start while the service still loads its modules."""

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
from vfagent.service.agent import Agent
from vfagent.service.preload import EVENT_LOOP_MODULES, GUEST_MODULES, Preload, start_preload
from vfagent.store.state import State

PF, SIBLING, OTHER = PciAddress("0000:01:00.0"), PciAddress("0000:01:00.1"), PciAddress("0000:02:00.0")
POLICY = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 2\n'


@pytest.fixture
def files(tmp_path: Path) -> FakeKernel:
    files = FakeKernel(tmp_path)
    files.tree.policy(POLICY)
    return files


def known_to_udev(files: FakeKernel, address: PciAddress, *, interface: str = "") -> None:
    """A PF that udev has initialized, but not its netdev."""
    files.tree.add_pf(address, interface=interface)
    put(files.tree.root / STORED / f"+pci:{address}", "")


def load(files: FakeKernel) -> Preload:
    """To the end of its workers. There is no event loop."""
    preload = start_preload(files.host, files.tree.root)
    preload.load_the_rest()
    for child in preload.workers.values():
        assert child.ends_within(10.0)
        child.close()
    os.close(preload.lock)
    return preload


def test_a_pf_that_udev_has_initialized_gets_its_vfs_before_the_event_loop(files: FakeKernel) -> None:
    known_to_udev(files, PF)
    known_to_udev(files, OTHER)
    assert set(load(files).workers) == {PF, OTHER}
    assert [len(files.tree.vfs(address)) for address in (PF, OTHER)] == [2, 2]


def test_of_the_ports_of_one_card_only_one_is_preloaded(files: FakeKernel) -> None:
    known_to_udev(files, PF)
    known_to_udev(files, SIBLING)
    assert len(load(files).workers) == 1


def test_a_nic_waits_until_udev_has_initialized_its_netdev(files: FakeKernel) -> None:
    known_to_udev(files, PF, interface="ens1")
    assert not load(files).workers
    put(files.tree.root / STORED / "n1", "")
    assert set(load(files).workers) == {PF}


def test_a_nic_without_a_netdev_is_left_to_the_event_loop(files: FakeKernel) -> None:
    known_to_udev(files, PF)
    files.tree.add_device(PF, **{"class": "0x020000"})
    assert not load(files).workers


def test_a_pf_that_udev_has_not_initialized_is_left_to_the_event_loop(files: FakeKernel) -> None:
    files.tree.add_pf(PF)  # not stored
    known_to_udev(files, OTHER)
    files.tree.bind(OTHER, None)
    assert not load(files).workers


def test_a_released_pf_is_not_reconciled(files: FakeKernel) -> None:
    known_to_udev(files, PF)
    State(files.tree.root).release(PF)
    assert not load(files).workers
    assert not files.writes()


@pytest.mark.parametrize("policy", ["", "[[pf]\n", '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = "two"\n'])
def test_without_a_valid_policy_no_worker_is_started(files: FakeKernel, policy: str) -> None:
    known_to_udev(files, PF)
    files.tree.policy(policy)
    assert not load(files).workers


def test_beside_another_agent_no_worker_is_started(files: FakeKernel) -> None:
    first = start_preload(files.host, files.tree.root)
    known_to_udev(files, PF)
    with pytest.raises(VfagentError, match="another one is running"):
        load(files)
    os.close(first.lock)
    assert not files.writes()
    assert load(files).workers


def loaded_by(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {program}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


PRELOAD = "from vfagent.store.identity import open_host; import vfagent.service.preload; open_host()"


def test_the_preload_needs_no_event_loop() -> None:
    """Nor pyroute2, unless a PF has host interfaces: with both, the first VFs would take twice as long."""
    assert not {"asyncio", "ssl", "pyroute2", "jeepney", "prometheus_client"} & set(loaded_by(PRELOAD))


def test_the_modules_of_the_event_loop_are_those_that_the_agent_loads() -> None:
    """And that the preload has not loaded already."""
    parts = EVENT_LOOP_MODULES
    agent = loaded_by(f"{PRELOAD}; import {parts[-1]}")
    assert parts[-1] == Agent.__module__
    assert not set(parts) & set(loaded_by(PRELOAD))
    assert set(parts) <= set(agent)


def test_the_modules_for_guests_are_those_that_guests_load() -> None:
    agent = f"import {Agent.__module__}"
    assert not set(GUEST_MODULES) & set(loaded_by(agent))
    assert set(GUEST_MODULES) <= set(
        loaded_by(f"{agent}; from vfagent.systemd.units import load_jeepney; load_jeepney()")
    )
