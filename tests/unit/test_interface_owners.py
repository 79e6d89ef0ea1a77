# SPDX-License-Identifier: Apache-2.0
"""Which program is to configure an interface, by its files."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from vfagent.kernel.protocols import Interface
from vfagent.store.interface_owners import InterfaceOwners

PF = Interface("ens1f0", ("00:1b:21:aa:bb:00",), "ice", properties={"ID_PATH": "pci-0000:3b:00.0"})
VLAN = Interface("vlan10", kind="vlan", managed=True, properties={"VFAGENT": "1", "NM_UNMANAGED": "1"})
NETWORK = "etc/systemd/network"
OWN_FILE = Path(__file__).parents[2] / "systemd/10-vfagent.network"
NM_RUNS = {"etc/systemd/system/multi-user.target.wants/NetworkManager.service": ""}
NM_CONF = "etc/NetworkManager/NetworkManager.conf"


def owner(root: Path, files: Mapping[str, str], interface: Interface = PF) -> str | None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return InterfaceOwners(root).owner(interface)


def test_nobody_configures_an_interface_of_a_host_without_such_files(tmp_path: Path) -> None:
    assert owner(tmp_path, {}) is None


@pytest.mark.parametrize(
    "match",
    [
        "Name=ens1f0",
        "Name=eth0 ens*",
        "Name=!eth*",
        "MACAddress=00:1B:21:AA:BB:00",
        "PermanentMACAddress=001b.21aa.bb00 00:00:00:00:00:01",
        "Driver=ic*",
        "Path=pci-0000:3b:*",
        "Type=ether",
        "Name=eth0\nName=ens1f0",
        "Name=eth0\nName=",
        "Property=ID_PATH=pci-0000:3b:00.0",
        "FutureKey=x",
    ],
)
def test_networkd_owns_what_a_file_of_it_matches(tmp_path: Path, match: str) -> None:
    file = f"{NETWORK}/50-lan.network"
    assert owner(tmp_path, {file: f"[Match]\n{match}\n[Network]\nDHCP=yes\n"}) == f"systemd-networkd ({file})"


@pytest.mark.parametrize(
    "match",
    [
        "Name=eth0",
        "Name=!ens*",
        "MACAddress=00:1b:21:aa:bb:01",
        "Driver=igb",
        "Path=pci-0000:3b:00.1",
        "Type=wlan",
        "Kind=veth",
        "Property=VFAGENT=1",
        "Name=ens1f0\nDriver=igb",
        "Name=ens1f0\nName=\nName=eth0",
    ],
)
def test_networkd_does_not_own_what_no_file_of_it_matches(tmp_path: Path, match: str) -> None:
    assert owner(tmp_path, {f"{NETWORK}/50-lan.network": f"[Match]\n{match}\n[Network]\nDHCP=yes\n"}) is None


def test_the_first_file_that_matches_decides_for_networkd(tmp_path: Path) -> None:
    files = {
        f"{NETWORK}/20-cards.network": "[Match]\nDriver=ice\n[Link]\nUnmanaged=yes\n",
        "run/systemd/network/50-all.network": "[Match]\nName=en*\n[Network]\nDHCP=yes\n",
    }
    assert owner(tmp_path, files) is None


def test_a_masked_file_of_networkd_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / NETWORK
    folder.mkdir(parents=True)
    (folder / "50-all.network").symlink_to("/dev/null")
    assert owner(tmp_path, {"usr/lib/systemd/network/50-all.network": "[Match]\nName=*\n"}) is None


def test_vfagents_own_file_keeps_networkd_away_from_managed_links_alone(tmp_path: Path) -> None:
    files = {f"{NETWORK}/50-all.network": "[Match]\nName=*\n", f"{NETWORK}/10-vfagent.network": OWN_FILE.read_text()}
    assert owner(tmp_path, files, VLAN) is None
    assert owner(tmp_path, files, PF) is not None
    before = {f"{NETWORK}/05-vlan.network": "[Match]\nName=vlan10\n[Network]\nDHCP=yes\n"}
    assert owner(tmp_path, before, VLAN) == f"systemd-networkd ({NETWORK}/05-vlan.network)"


def test_network_manager_owns_every_ethernet_device_by_default(tmp_path: Path) -> None:
    assert owner(tmp_path, NM_RUNS) == "NetworkManager"
    assert owner(tmp_path, {}, VLAN) is None


def test_network_manager_owns_nothing_where_it_is_not_enabled(tmp_path: Path) -> None:
    assert owner(tmp_path, {NM_CONF: "[main]\nplugins=keyfile\n"}) is None


@pytest.mark.parametrize("value", ["1", "true"])
def test_udevs_property_keeps_network_manager_away(tmp_path: Path, value: str) -> None:
    assert owner(tmp_path, NM_RUNS, Interface("ens1f0", properties={"NM_UNMANAGED": value})) is None


@pytest.mark.parametrize(
    "conf",
    [
        "[keyfile]\nunmanaged-devices=interface-name:ens1f*;interface-name:ens2f0\n",
        "[keyfile]\nunmanaged-devices=interface-name:=ens1f0\n",
        "[keyfile]\nunmanaged-devices=mac:00:1B:21:AA:BB:00\n",
        "[keyfile]\nunmanaged-devices=driver:ice\n",
        "[keyfile]\nunmanaged-devices=*,except:type:wifi,except:type:gsm,except:type:cdma\n",  # Ubuntu's own
        "[keyfile]\nunmanaged-devices=interface-name:eth0\nunmanaged-devices+=interface-name:ens1f0\n",
        "[device-cards]\nmatch-device=driver:ice\nmanaged=0\n",
    ],
)
def test_network_manager_leaves_what_its_configuration_says(tmp_path: Path, conf: str) -> None:
    assert owner(tmp_path, {**NM_RUNS, NM_CONF: conf}) is None


@pytest.mark.parametrize(
    "conf",
    [
        "[keyfile]\nunmanaged-devices=interface-name:eth0\n",
        "[keyfile]\nunmanaged-devices=*,except:type:ethernet\n",
        "[keyfile]\nunmanaged-devices=*,except:interface-name:ens1f0\n",
        "[device-cards]\nmatch-device=driver:igb\nmanaged=0\n",
    ],
)
def test_network_manager_owns_what_its_configuration_does_not_exclude(tmp_path: Path, conf: str) -> None:
    assert owner(tmp_path, {**NM_RUNS, NM_CONF: conf}) == "NetworkManager"


def test_a_drop_in_of_network_manager_counts(tmp_path: Path) -> None:
    conf = {"usr/lib/NetworkManager/conf.d/10-x.conf": "[keyfile]\nunmanaged-devices=driver:ice\n"}
    assert owner(tmp_path, {**NM_RUNS, **conf}) is None


@pytest.mark.parametrize("method", ["inet dhcp", "inet static", "inet6 auto", "inet6 dhcp", "inet6 manual"])
def test_ifupdown_owns_what_a_stanza_configures(tmp_path: Path, method: str) -> None:
    files = {"etc/network/interfaces.d/lan": f"auto ens1f0\niface ens1f0 {method}\n"}
    assert owner(tmp_path, files) == f"ifupdown ({method})"


def test_a_manual_stanza_only_sets_a_port_up(tmp_path: Path) -> None:
    """Proxmox writes one for each NIC."""
    files = {"etc/network/interfaces": "iface ens1f0 inet manual\n\niface ens1f1 inet dhcp\n"}
    assert owner(tmp_path, files) is None
    nm = {**NM_RUNS, NM_CONF: "[main]\nplugins=ifupdown,keyfile\n[ifupdown]\nmanaged=false\n"}
    assert owner(tmp_path, nm) is None


def test_wickeds_file_for_an_interface_counts(tmp_path: Path) -> None:
    files = {"etc/sysconfig/network/ifcfg-ens1f0": "BOOTPROTO='dhcp'\n"}
    assert owner(tmp_path, files) == "etc/sysconfig/network/ifcfg-ens1f0"


def test_files_of_nonsense_do_no_harm(tmp_path: Path) -> None:
    files = {
        f"{NETWORK}/a.network": "=\n[Match\nName\n[]\n===\n[Match]\n=x\n",
        "etc/network/interfaces": "iface\niface ens1f0\n\0",
        NM_CONF: "[keyfile]\nunmanaged-devices=;;,except:,mac:\n",
        **NM_RUNS,
    }
    assert owner(tmp_path, files) in (None, "NetworkManager", f"systemd-networkd ({NETWORK}/a.network)")
