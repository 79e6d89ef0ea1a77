# SPDX-License-Identifier: Apache-2.0
"""The representors of a PF's VFs."""

from collections.abc import Iterable
from pathlib import Path

from tests.host.tree import put
from vfagent.reconcile.observe import representor_names
from vfagent.store.identity import open_host


def card(root: Path, switch: str, uplinks: Iterable[tuple[str, str]], vf_ports: Iterable[str]) -> None:
    for name, port in (*uplinks, *((f"{switch}{port}", port) for port in vf_ports)):
        put(root / f"sys/class/net/{name}/phys_switch_id", f"{switch}\n")
        put(root / f"sys/class/net/{name}/phys_port_name", f"{port}\n")


def test_the_only_uplink_has_all_representors_whatever_its_port_number(tmp_path: Path) -> None:
    """netdevsim's port is p1, and those of its VFs are pf0vf0 and so on (nsim_dev_port_add())."""
    card(tmp_path, "aa", [("eth0", "p1")], ["pf0vf0", "pf0vf1"])
    assert list(representor_names(open_host(tmp_path), "eth0")) == [("aapf0vf0", 0, 0), ("aapf0vf1", 0, 1)]


def test_each_uplink_of_a_switch_has_the_representors_of_its_pf(tmp_path: Path) -> None:
    card(tmp_path, "aa", [("eth0", "p0"), ("eth1", "p1")], ["pf0vf0", "c1pf1vf0", "pf1vf1"])
    by_uplink = {uplink: list(representor_names(open_host(tmp_path), uplink)) for uplink in ("eth0", "eth1")}
    assert by_uplink == {"eth0": [("aapf0vf0", 0, 0)], "eth1": [("aac1pf1vf0", 1, 0), ("aapf1vf1", 1, 1)]}


def test_representors_of_another_card_are_ignored(tmp_path: Path) -> None:
    card(tmp_path, "aa", [("eth0", "p0")], ["pf0vf0"])
    card(tmp_path, "bb", [("eth1", "p0")], ["pf0vf0"])
    assert list(representor_names(open_host(tmp_path), "eth1")) == [("bbpf0vf0", 0, 0)]


def test_without_switchdev_there_are_no_representors(tmp_path: Path) -> None:
    put(tmp_path / "sys/class/net/eth0/phys_port_name", "p0\n")
    put(tmp_path / "sys/class/net/eth1/phys_port_name", "pf0vf0\n")
    assert list(representor_names(open_host(tmp_path), "eth0")) == []
