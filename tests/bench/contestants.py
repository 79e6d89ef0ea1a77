# SPDX-License-Identifier: Apache-2.0
"""Programs that create 7 VFs on an 82576 with MAC and VLAN, bind them to vfio-pci and set the PF up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.install import vfagent_tree
from tests.lab.packages import packages_tree
from tests.lab.payload import Content, Entry

HERE = Path(__file__).parent / "guest"
COUNT = 7
PF = "0000:01:00.0"
POLICY = f"""
[[pf]]
name = "bench"
match = {{ driver = "igb" }}
vfs = {COUNT}

[[pf.vf]]
index = "*"
driver = "vfio-pci"
mac = "52:54:00:bb:00:{{index:02x}}"
vlan = 10
"""
FLOOR, VFAGENT, SEED, LINK, DRIVERCTL = (
    "straight line",
    "vfagent",
    "the seed's script",
    "systemd.link",
    "driverctl, ip link",
)
CANNOT = {
    "netplan 1.1": "no vfio-pci, no VF MAC through the PF; acts at boot and on `netplan apply`, not on hotplug",
    "libvirt 11": "creates no VFs; sets MAC, VLAN and driver of a VF when a guest starts with it",
}

# An 82576's VFs are every second function from 10.0.
VFS = [f"0000:01:{0x10 + 2 * index // 8:x}.{2 * index % 8}" for index in range(COUNT)]
_PLACES = {".service": "/usr/lib/systemd/system", ".rules": "/etc/udev/rules.d"}
_IDS = "8086 10ca"


@dataclass(frozen=True, slots=True)
class Contestant:
    """`start` makes it wait for PFs, `stop` ends it; both run in the VM's shell."""

    name: str
    start: str
    stop: str


def contestants(pfs: Sequence[str] = (PF,)) -> tuple[Contestant, ...]:
    waiting = "journalctl -q -u straight -o cat --since -20s | grep -c waiting"
    straight = (
        f"systemd-run --quiet --unit=straight python3 /usr/lib/bench/straight.py {COUNT} {' '.join(pfs)};"
        f" until test $({waiting}) = {len(pfs)}; do sleep 0.2; done"
    )
    return (
        Contestant(FLOOR, straight, "systemctl stop straight 2>/dev/null; systemctl reset-failed straight 2>/dev/null"),
        Contestant(VFAGENT, "systemctl start vfagent.service", "systemctl stop vfagent.service"),
        Contestant(SEED, "touch /run/seed", "rm /run/seed; systemctl stop 'seed@*'"),
    )


def peers() -> tuple[Contestant, ...]:
    """Contestants whose configuration names the card."""
    without_igbvf = (
        "rmmod igbvf 2>/dev/null; mkdir -p /run/modprobe.d; echo blacklist igbvf >/run/modprobe.d/bench.conf"
    )
    with_igbvf = "rm /run/modprobe.d/bench.conf; modprobe igbvf"
    link = "/run/systemd/network/10-bench"
    return (
        Contestant(
            LINK,
            f"{without_igbvf}; echo {_IDS} >/sys/bus/pci/drivers/vfio-pci/new_id; mkdir -p /run/systemd/network;"
            f" cp /usr/lib/bench/pf.link {link}.link; cp /usr/lib/bench/pf.network {link}.network;"
            " udevadm control --reload; systemctl start systemd-networkd",
            f"systemctl stop systemd-networkd.socket systemd-networkd; rm {link}.*; udevadm control --reload;"
            f" echo {_IDS} >/sys/bus/pci/drivers/vfio-pci/remove_id; {with_igbvf}",
        ),
        Contestant(
            DRIVERCTL,
            f"{without_igbvf}; mkdir -p /etc/driverctl.d; for vf in {' '.join(VFS)};"
            " do echo vfio-pci >/etc/driverctl.d/pci-$vf; done; touch /run/linkctl",
            f"rm -r /run/linkctl /etc/driverctl.d; systemctl stop 'linkctl@*' 'driverctl@*'; {with_igbvf}",
        ),
    )


def payload(policy: str = POLICY, more: Mapping[str, Content] | None = None) -> dict[str, Entry]:
    files = (path for path in HERE.iterdir() if path.is_file())
    extra: dict[str, Content] = {
        f"{_PLACES.get(path.suffix, '/usr/lib/bench')}/{path.name}": Entry(path.read_bytes(), 0o755) for path in files
    }
    # The unit stays active, so it would not start again when the card is plugged in a second time.
    extra["/etc/systemd/system/driverctl@.service.d/bench.conf"] = b"[Unit]\nRefuseManualStop=no\n"
    return packages_tree("driverctl") | vfagent_tree(policy, extra | dict(more or {}), enabled=False)
