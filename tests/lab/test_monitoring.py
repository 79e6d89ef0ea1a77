# SPDX-License-Identifier: Apache-2.0
"""Prometheus on the host during a boot, a hotplug, a guest and failures: its data matches the host.

The tests follow each other. The alerts are the shipped ones, with their own times; promtool tests the slower ones.
"""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.facts import SYSFS, link, netdev, status, vfs
from tests.lab.install import vfagent_tree
from tests.lab.module import kernel_module
from tests.lab.nic import Igb
from tests.lab.payload import Entry
from tests.lab.prometheus import Prometheus, dashboard_queries, prometheus_tree
from tests.lab.target import boot_sector
from tests.lab.vm import VM

pytestmark = pytest.mark.long
PF, LATE = "0000:01:00.0", "0000:02:00.0"
UNIT = "vfagent-guest-disk.service"
POLICY = f"""
[[pf]]
name = "storage"
match = {{ pci = "{PF}" }}
vfs = 4

[[pf.vf]]
index = "0-2"
driver = "vfio-pci"
mac = "52:54:00:bb:00:{{index:02x}}"
vlan = 10
link_state = "enable"

[[pf.vf]]
index = "*"
driver = "host"

[[pf]]
name = "late"
match = {{ driver = "igb" }}
vfs = 2

[[guest]]
name = "disk"
vfs = ["storage:0"]
memory = "64M"

[[guest.disk]]
path = "/srv/disk"
readonly = true
"""
MORE = POLICY.replace("vfs = 4", "vfs = 6")


def payload() -> dict[str, Entry]:
    return vfagent_tree(POLICY, {"/srv/disk": Entry(boot_sector()), **prometheus_tree()})


@pytest.fixture(scope="module")
def vm(boot_module: Callable[..., VM]) -> VM:
    return boot_module([Igb("igb0")], payload(), hypervisor=True)


@pytest.fixture(scope="module")
def prometheus(vm: VM) -> Prometheus:
    return Prometheus(vm)


@pytest.fixture(scope="module")
def began(vm: VM) -> float:
    """The time of the boot by the host's clock, which Prometheus uses too."""
    return clock(vm) - float(vm.run("cut -d' ' -f1 /proc/uptime").stdout)


def clock(vm: VM) -> float:
    return float(vm.run("date +%s.%N").stdout)


def systemd(vm: VM, unit: str, name: str) -> str:
    return vm.run(f"systemctl show --value --timestamp=unix --property {name} {unit}").stdout.strip().lstrip("@")


def reload_with(vm: VM, policy: str) -> None:
    vm.put("/etc/vfagent/policy.toml", policy.encode())
    vm.run("systemctl reload vfagent.service")


def phase(pf: str, name: str) -> str:
    return f'vfagent_pf_phase{{pf="{pf}",phase="{name}"}} == 1'


def guest(name: str) -> str:
    return f'vfagent_guest_phase{{guest="disk",phase="{name}"}} == 1'


def test_the_metrics_of_the_boot_match_systemd(vm: VM, prometheus: Prometheus) -> None:
    prometheus.until("vfagent_ready == 1")
    prometheus.until(phase(PF, "converged"))
    ready_s = int(systemd(vm, "vfagent.service", "ActiveEnterTimestampMonotonic")) / 1e6
    assert prometheus.value("vfagent_boot_to_ready_seconds") == pytest.approx(ready_s, abs=2)
    started = float(systemd(vm, "vfagent.service", "ExecMainStartTimestamp"))
    became_ready = float(systemd(vm, "vfagent.service", "ActiveEnterTimestamp"))
    assert started <= prometheus.value("vfagent_start_time_seconds") <= became_ready + 1
    assert prometheus.value("vfagent_convergence_duration_seconds_sum") < ready_s


def test_the_metrics_of_a_guest_match_systemd(vm: VM, prometheus: Prometheus) -> None:
    prometheus.until(guest("running"))
    [held] = prometheus.query(
        "vfagent_vf_guest_info * on (instance, pf, vf) group_left (pci_address) vfagent_vf_info",
    )
    vf = vfs(vm, PF)[0]
    assert held["metric"].items() >= {"guest": "disk", "pf": PF, "vf": "0", "pci_address": vf.address}.items()
    assert f"VFAGENT_VFS={vf.address}" in systemd(vm, UNIT, "Environment")
    started = float(systemd(vm, UNIT, "ExecMainStartTimestamp"))
    assert prometheus.value('vfagent_guest_start_time_seconds{guest="disk"}') == pytest.approx(started, abs=1)
    assert prometheus.value('vfagent_guest_starts_total{guest="disk"}') == 1
    assert str(int(prometheus.value('vfagent_guest_restarts_total{guest="disk"}'))) == systemd(vm, UNIT, "NRestarts")


def test_a_hotplug_is_counted(vm: VM, prometheus: Prometheus) -> None:
    before = prometheus.value("vfagent_convergence_duration_seconds_count")
    events = prometheus.value("vfagent_uevents_total")
    assert vm.hotplug(Igb("igb1")) == LATE
    prometheus.until(phase(LATE, "converged"))
    assert prometheus.value(f'vfagent_pf_vfs_actual{{pf="{LATE}"}}') == len(vfs(vm, LATE)) == 2
    assert prometheus.value("vfagent_convergence_duration_seconds_count") > before
    assert prometheus.value("vfagent_uevents_total") > events
    assert prometheus.value('vfagent_steps_total{step="set_numvfs"}') == 2


def test_the_metrics_of_pfs_match_sysfs_and_ip(vm: VM, prometheus: Prometheus) -> None:
    for pf in (PF, LATE):
        seen, name = link(vm, pf), netdev(vm, pf)
        [info] = prometheus.query(f'vfagent_pf_info{{pf="{pf}"}}')
        driver = vm.run(f"basename $(readlink {SYSFS}/{pf}/driver)").stdout.strip()
        assert (info["metric"]["netdev"], info["metric"]["driver"]) == (name, driver)
        facts = {
            "vfs_actual": len(vfs(vm, pf)),
            "vfs_limit": int(vm.run(f"cat {SYSFS}/{pf}/sriov_totalvfs").stdout),
            "mtu_bytes": seen["mtu"],
            "admin_up": int("UP" in seen["flags"]),  # type: ignore[operator]
            "carrier": int(vm.run(f"cat /sys/class/net/{name}/carrier").stdout),
        }
        assert {fact: prometheus.value(f'vfagent_pf_{fact}{{pf="{pf}"}}') for fact in facts} == facts


def test_the_metrics_of_vfs_match_sysfs_and_ip(vm: VM, prometheus: Prometheus) -> None:
    for pf in (PF, LATE):
        infos = {
            series["metric"]["vf"]: series["metric"] for series in prometheus.query(f'vfagent_vf_info{{pf="{pf}"}}')
        }
        for vf in vfs(vm, pf):
            group = vm.run(f"basename $(readlink {SYSFS}/{vf.address}/iommu_group)").stdout.strip()
            facts = {"pci_address": vf.address, "driver": vf.driver, "mac": vf.mac, "vlan": str(vf.vlan)}
            assert infos.pop(str(vf.index)).items() >= {**facts, "iommu_group": group}.items()
        assert infos == {}
    held = {series["metric"]["vf"] for series in prometheus.query(f'vfagent_vf_in_use{{pf="{PF}"}} == 1')}
    assert held == {str(vf.index) for vf in vfs(vm, PF) if vf.driver == "vfio-pci" and enabled(vm, vf.address)} == {"0"}


def enabled(vm: VM, address: str) -> bool:
    return vm.run(f"cat {SYSFS}/{address}/enable").stdout != "0\n"


def test_a_converged_host_raises_no_alert(vm: VM, prometheus: Prometheus, began: float) -> None:
    vm.wait_for(lambda: prometheus.alerts() == {}, 30)
    assert prometheus.over('ALERTS{alertstate="firing"}', began, clock(vm)) == []


PACKETS, PAYLOAD, HEADERS = 100, 1000, 14 + 20 + 8
SEND = f"""
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({PACKETS}):
    sender.sendto(bytes({PAYLOAD}), (sys.argv[1], 9))
"""


def test_a_driver_without_vf_counters_has_no_metrics_instead_of_zeros(vm: VM, prometheus: Prometheus) -> None:
    """The driver of the 82576 has no VF counters. The kernel reports zeros, also after a transfer."""
    own = netdev(vm, PF)
    inside = vm.run(f"ls {SYSFS}/{PF}/virtfn3/net").stdout.strip()
    vm.run(f"ip netns add other; ip link set {inside} netns other; ip -n other link set {inside} up")
    vm.run(f"ip -n other address add 192.0.2.2/24 dev {inside}; ip address add 192.0.2.1/24 dev {own}")
    vm.wait_for(f"ip -n other link show {inside} | grep -q LOWER_UP")
    prometheus.until(f'vfagent_vf_in_use{{pf="{PF}",vf="3"}} == 1')
    vm.run(f"python3 -c '{SEND}' 192.0.2.2")
    vm.wait_for(lambda: received(vm, f"-n other -s link show {inside}")[0] >= PACKETS, 20)
    assert received(vm, f"-s link show {own}", vf=3) == (0, 0)
    assert b"vfagent_vf_receive" not in prometheus.page()
    assert b"vfagent_vf_transmit" not in prometheus.page()
    vm.run(f"ip address del 192.0.2.1/24 dev {own}; ip netns del other")


def test_vf_counters_increase_by_the_traffic_that_was_sent(vm: VM) -> None:
    """The lab's module counts, and sends back what its VF receives. Netlink is the kernel's own."""
    vm.put("/run/counting.ko", kernel_module("counting", "counting", vm.suite))
    vm.put("/run/counters.py", (Path(__file__).parent / "adapter_counters.py").read_bytes())
    vm.run("insmod /run/counting.ko; echo 1 >/proc/sys/net/ipv6/conf/counting0/disable_ipv6")
    vm.run("ip address add 198.51.100.1/24 dev counting0; ip link set counting0 up")
    vm.run("ip neighbour add 198.51.100.2 lladdr 02:00:00:00:00:02 dev counting0")
    before = counters(vm)
    vm.run(f"python3 -c '{SEND}' 198.51.100.2")
    after = counters(vm)
    risen = {name: after[name] - before[name] for name in after}
    size = PACKETS * (PAYLOAD + HEADERS)
    both_ways = {"rx_packets": PACKETS, "tx_packets": PACKETS, "rx_bytes": size, "tx_bytes": size}
    assert risen == {**dict.fromkeys(after, 0), **both_ways}
    assert received(vm, "-s link show counting0", vf=0) == (after["rx_packets"], after["rx_bytes"])
    vm.run("rmmod counting")


def counters(vm: VM) -> dict[str, int]:
    return dict(json.loads(vm.run("python3 /run/counters.py counting0").stdout))


def received(vm: VM, arguments: str, vf: int | None = None) -> tuple[int, int]:
    """Packets and bytes by `ip -s`: the netdev's own, or the PF's counters of a VF."""
    [link_facts] = json.loads(vm.run(f"ip -j {arguments}").stdout)
    stats = link_facts["stats64"]["rx"] if vf is None else link_facts["vfinfo_list"][vf]["stats"]["rx"]
    return stats["packets"], stats["bytes"]


def test_repeated_drift_raises_its_alert(vm: VM, prometheus: Prometheus) -> None:
    for number in range(1, 6):
        vm.wait_for(lambda: status(vm)[PF]["phase"] == "converged", 30)
        vm.run(f"ip link set {netdev(vm, PF)} vf 1 vlan 20")
        prometheus.until(f'vfagent_drift_total{{attribute="vlan"}} == {number}')
        assert vfs(vm, PF)[1].vlan == 10
    vm.wait_for(lambda: prometheus.alerts() == {"VfagentDriftRepeats": "firing"}, 20)


def test_changes_that_a_guest_blocks_are_exported_as_deferred(vm: VM, prometheus: Prometheus) -> None:
    reload_with(vm, MORE)
    vm.run(f"ip link set {netdev(vm, PF)} vf 0 vlan 30")
    prometheus.until(phase(PF, "deferred"))
    prometheus.until(f'vfagent_pf_differs{{pf="{PF}",attribute="numvfs"}}')
    prometheus.until(f'vfagent_vf_differs{{pf="{PF}",vf="0",attribute="vlan"}}')
    deferred = status(vm)[PF]["deferred"]
    assert isinstance(deferred, list)
    assert prometheus.value(f'vfagent_pf_deferred_changes{{pf="{PF}"}}') == len(deferred)
    assert prometheus.alerts().get("VfagentChangesDeferred") == "pending"
    assert "VfagentVfsMissing" not in prometheus.alerts()
    # After a crash of the guest the change would be made, and the guest started instead of restarted.
    vm.run(f"ip link set {netdev(vm, PF)} vf 0 vlan 10")
    reload_with(vm, POLICY)
    prometheus.until(phase(PF, "converged"))


def test_a_guest_that_crashes_raises_its_alerts(vm: VM, prometheus: Prometheus) -> None:
    for restarts in range(1, 5):
        vm.run(f"systemctl kill --signal=SEGV {UNIT}")
        prometheus.until(f'vfagent_guest_restarts_total{{guest="disk"}} == {restarts}')
        assert systemd(vm, UNIT, "NRestarts") == str(restarts)
        prometheus.until(guest("running"))
    vm.wait_for(lambda: prometheus.alerts().get("VfagentGuestRestarts") == "firing", 20)
    vm.run(f"systemctl kill --signal=SEGV {UNIT}")
    prometheus.until(guest("failed"))
    assert prometheus.query("vfagent_vf_guest_info") == []
    vm.wait_for(lambda: prometheus.alerts().get("VfagentGuestFailed") == "firing", 60)
    vm.run("vfagent guest start disk", timeout=60)
    prometheus.until(guest("running"))
    assert prometheus.value('vfagent_guest_starts_total{guest="disk"}') == 2
    vm.wait_for(lambda: "VfagentGuestFailed" not in prometheus.alerts(), 20)


def test_invalid_and_unmet_policies_raise_different_alerts(vm: VM, prometheus: Prometheus) -> None:
    reload_with(vm, POLICY.replace("vfs = 2", "vfs = 9"))
    prometheus.until(phase(LATE, "failed"))
    vm.put("/etc/vfagent/policy.toml", b"[[pf]]\nvfs = many\n")
    assert vm.run("systemctl reload vfagent.service", check=False).returncode != 0
    prometheus.until("vfagent_policy_last_reload_successful == 0")
    prometheus.until(phase(LATE, "failed"))
    expected = {
        "VfagentDriftRepeats": "firing",
        "VfagentGuestRestarts": "firing",
        "VfagentPfFailed": "pending",
        "VfagentPolicyInvalid": "pending",
        "VfagentVfsMissing": "pending",
    }
    vm.wait_for(lambda: prometheus.alerts() == expected, 30)


def test_no_other_alert_has_fired(vm: VM, prometheus: Prometheus, began: float) -> None:
    fired = prometheus.over('ALERTS{alertstate="firing"}', began, clock(vm))
    expected = {"VfagentDriftRepeats", "VfagentGuestRestarts", "VfagentGuestFailed"}
    assert {series["metric"]["alertname"] for series in fired} == expected


# Not counted by the driver of the 82576, not failed in this test, or set right again between two scrapes.
WITHOUT_DATA = re.compile(
    r"vfagent_vf_(receive|transmit)_|vfagent_(step|guest_start)_failures_total|vfagent_vf_differs",
)


def test_every_query_of_the_dashboard_returns_data(vm: VM, prometheus: Prometheus, began: float) -> None:
    empty, end = [], clock(vm)
    for _, target in dashboard_queries(job="vfagent", instance="127.0.0.1:9862", pf=PF):
        if not prometheus.over(target["expr"], began, end, step=5):
            empty.append(target["expr"])
    assert [query for query in empty if not WITHOUT_DATA.search(query)] == []


def test_prometheus_scrapes_openmetrics(prometheus: Prometheus) -> None:
    """Where the family of a counter is named without its suffix."""
    known = prometheus.metadata("vfagent")
    assert known["vfagent_rounds"] == "counter"
    assert "vfagent_rounds_total" not in known
    assert prometheus.value("vfagent_rounds_total") > 0


def test_the_process_metrics_are_of_the_main_process(vm: VM, prometheus: Prometheus) -> None:
    """They need the service's own /proc, which its sandbox leaves it."""
    started = float(systemd(vm, "vfagent.service", "ExecMainStartTimestamp"))
    assert prometheus.value("process_start_time_seconds{job='vfagent'}") == pytest.approx(started, abs=2)
    resident = int(vm.run("awk '/^VmRSS/ {print $2}' /proc/$(systemctl show -P MainPID vfagent.service)/status").stdout)
    assert prometheus.value("process_resident_memory_bytes{job='vfagent'}") == pytest.approx(1024 * resident, rel=0.2)
    assert prometheus.value("process_open_fds{job='vfagent'}") > 10
    assert prometheus.value("process_cpu_seconds_total{job='vfagent'}") > 0


def test_promtool_accepts_the_metrics_page(prometheus: Prometheus) -> None:
    page = prometheus.page()
    assert page.count(b"\n") > 300
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
