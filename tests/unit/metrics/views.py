# SPDX-License-Identifier: Apache-2.0
"""Example states for pages. `python -m tests.unit.metrics.views` prints the golden page."""

import sys
from dataclasses import replace

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from tests.unit.states import pf_state
from vfagent.kernel.vf_counters import VfCounters
from vfagent.metrics.counters import Counters
from vfagent.metrics.page import Format, ViewCollector
from vfagent.metrics.view import About, View
from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.driver_state import DriverState
from vfagent.model.guest_usage import GuestUsage, NicCounters
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.status import GuestPhase, GuestStatus, PolicyStatus
from vfagent.model.vf_settings import Attribute, LinkState, VfSettings, Vlan
from vfagent.plan.planner import Plan
from vfagent.plan.steps import BindDriver, ConfigureVf, SetMtu, SetNumvfs
from vfagent.plan.vf import Deferred, Planned
from vfagent.reconcile.pf_state import PfState, Work
from vfagent.reconcile.reports import Failure
from vfagent.reconcile.status import snapshot
from vfagent.service.status_cache import StatusCache

STORAGE, STUCK, FRESH = (PciAddress(f"0000:{bus}:00.0") for bus in ("3b", "5e", "86"))
POLICY = PolicyStatus(
    ("/etc/vfagent/policy.toml", "/etc/vfagent/policy.d/10.toml"),
    "0123456789ab",
    1_767_225_600.5,
    rules=("storage", "renamed"),
    on_disk_active=False,
)


def vf(index: int, *, driver: str | None = "vfio-pci", enabled: bool = False, vlan: int | None = 10) -> Vf:
    settings = VfSettings(mac=f"02:00:00:00:00:{index:02x}", vlan=None if vlan is None else Vlan(vlan))
    return Vf(
        index, PciAddress(f"0000:3b:02.{index}"), driver, enabled=enabled, iommu_group=40 + index, settings=settings
    )


def converging() -> PfState:
    """One VF in use with a deferred change, one with a pending change, one converged, one without a driver."""
    netdev = Netdev("eth0", 2, "02:00:00:00:01:00", None, mtu=1500, admin_up=True, carrier=False)
    bare = Vf(3, PciAddress("0000:3b:02.3"))
    pf = Pf(
        STORAGE,
        "ice",
        "0x8086",
        "0x1592",
        "0x020000",
        totalvfs=8,
        autoprobe=False,
        vfs=(vf(0, enabled=True), vf(1, vlan=20), vf(2), bare),
        netdev=netdev,
        device_name="Ethernet Controller E810-C",
        eswitch="legacy",
        hwmode="vepa",
    )
    plan = Plan(
        batches=(
            (
                (
                    Planned(SetMtu(STORAGE, 2, 9000), "found 1500"),
                    Planned(ConfigureVf(STORAGE, 2, 1, VfSettings(vlan=Vlan(10), trust=True)), "found vlan 20"),
                    Planned(BindDriver(STORAGE, 3, bare.address, "vfio-pci"), "found no driver"),
                ),
            ),
        ),
        deferred=(
            Deferred(ConfigureVf(STORAGE, 2, 0, VfSettings(link_state=LinkState.ENABLE)), "found auto", "vf0: in use"),
        ),
    )
    driver_state = DriverState(
        unsupported={
            Attribute.VLAN_PROTOCOL: "EPROTONOSUPPORT (Protocol not supported)",
            Attribute.MIN_TX_RATE: "EINVAL (Invalid argument)",
        }
    )
    wanted = DesiredVf(1, "vfio-pci", VfSettings(vlan=Vlan(10), trust=True))
    desired = DesiredPf(STORAGE, "storage", 4, 9000, (wanted,))
    return pf_state(STORAGE, pf, desired, plan, driver_state=driver_state, attempts=2)


def stuck() -> PfState:
    only = replace(vf(0, driver=None), address=PciAddress("0000:5e:10.0"))
    pf = Pf(STUCK, "igb", "0x8086", "0x10c9", "0x020000", totalvfs=7, autoprobe=True, vfs=(only,))
    failure = Failure("remove all VFs", "no answer")
    return pf_state(STUCK, pf, work=Work.STUCK, failures=(failure,), attempts=1)


def counters() -> Counters:
    result = Counters()
    result.started_at, result.boot_to_ready_s = 1_767_225_600.0, 7.25
    result.rounds, result.uevents, result.link_events, result.coalesced = 1234567, 12, 5, 3
    result.overflowed("udev")
    step = SetNumvfs(STORAGE, 4)
    result.step_ended(step, 0.75, failed=False)
    result.step_ended(step, 200.0, failed=True)
    result.drifted([ConfigureVf(STORAGE, 2, 0, VfSettings(vlan=Vlan(10), trust=True))])
    result.reconciles.observe(0.25)
    result.round_s.observe(0.125)
    result.convergences.observe(1.5)
    return result


GUESTS = (
    GuestStatus(
        "cirros",
        GuestPhase.RUNNING,
        "vfagent-guest-cirros.service",
        vfs=(f"{STORAGE}/vf0",),
        loader="iPXE image",
        pid=4711,
        outdated=True,
        vf_addresses=("0000:3b:02.0",),
        starts=2,
        start_failures=1,
        restarts=3,
        started_at=1_767_225_700.25,
    ),
    GuestStatus("late", GuestPhase.WAITING, "vfagent-guest-late.service", detail="no PF of rule 'late' is here"),
)


def view() -> View:
    status = snapshot(
        StatusCache().of([converging(), stuck(), PfState(FRESH)]), POLICY, "1.2.3", ready=True, guests=GUESTS
    )
    traffic = VfCounters(10, 20, 1_000_000, 2000, 1, 2, 0, None)
    nics = (NicCounters(1500, 900, 3, 2),)
    usage = {status.guests[0].name: GuestUsage(12.5, 1 << 29, 4096, 512, nics)}
    return View(status, counters(), {STORAGE: {0: traffic, 1: VfCounters(*[0] * 8)}}, usage)


def about(*, ready: bool = True) -> About:
    return About("1.2.3", POLICY.digest, ready=ready)


def text(of: View, form: Format = Format.TEXT) -> str:
    """Without the process_* metrics, which differ each time."""
    registry = CollectorRegistry()
    registry.register(ViewCollector(of))
    encode, _ = choose_encoder(form.value)
    return encode(registry).decode()


if __name__ == "__main__":
    sys.stdout.write(text(view()))
