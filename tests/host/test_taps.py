# SPDX-License-Identifier: Apache-2.0
"""Taps of guests on real bridges, in a namespace. tests/lab/test_guests.py has those in a VLAN."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.host.leaks import run_to_end
from tests.host.namespace import ip, link, run
from tests.host.real_host import host_of
from vfagent.errors import VfagentError
from vfagent.guests.spec.nics import Tap
from vfagent.guests.tap_monitor import TapMonitor
from vfagent.guests.taps import attach, attach_all, open_taps
from vfagent.guests.worker_calls import WorkerCalls
from vfagent.kernel.protocols import Host
from vfagent.process.workers import Workers

TAP = Tap("vfg-01234567-0", "br0", None, "fe:00:00:00:00:01")
TAGGED = Tap("vfg-01234567-0", "br0", 10, "fe:00:00:00:00:01")

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def host(tmp_path: Path, kernel: None) -> Host:
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "set", "br0", "up")
    return host_of(tmp_path)


def test_a_tap_is_a_port_while_it_is_open(host: Host) -> None:
    ip("link", "set", "br0", "mtu", "9000")
    with open_taps((TAP,), host):
        shown = link(TAP.name)
        assert (shown["master"], shown["ifalias"], shown["mtu"], shown["address"]) == ("br0", "vfagent", 9000, TAP.mac)
        assert "UP" in shown["flags"]
        assert not json.loads(run("ip", "-json", "addr", "show", "dev", TAP.name))[0]["addr_info"]
        assert link("br0")["mtu"] == 9000
    assert host.network.link(TAP.name) is None


def test_a_vlan_on_a_bridge_that_does_not_filter_is_refused(host: Host) -> None:
    with pytest.raises(VfagentError, match="does not filter by VLAN"), open_taps((TAGGED,), host):
        pass
    with open_taps((TAP,), host):  # as if it had filtered when the guest started
        [text] = attach_all((TAGGED,), host).problems
        assert "does not filter by VLAN" in text
        assert "UP" not in link(TAP.name)["flags"]


def test_it_joins_a_bridge_that_was_made_again(host: Host) -> None:
    with open_taps((TAP,), host):
        ip("link", "del", "br0")
        with pytest.raises(VfagentError, match="cannot join br0: it does not exist"):
            attach(TAP, host)
        ip("link", "add", "br0", "type", "bridge")
        attach(TAP, host)
        assert link(TAP.name)["master"] == "br0"


def test_a_bridge_keeps_its_mac_where_somebody_has_changed_that_of_a_tap(host: Host) -> None:
    with open_taps((TAP,), host):
        ip("link", "set", TAP.name, "address", "02:00:00:00:00:01")
        attach(TAP, host)
        assert link(TAP.name)["address"] == TAP.mac


def test_one_that_outlived_its_guest_is_replaced(host: Host) -> None:
    ip("tuntap", "add", TAP.name, "mode", "tap")
    ip("link", "set", TAP.name, "alias", "vfagent")
    before = link(TAP.name)["ifindex"]
    with open_taps((TAP,), host):
        assert link(TAP.name)["ifindex"] != before


def test_without_its_bridge_nothing_remains(host: Host) -> None:
    ip("link", "del", "br0")
    with pytest.raises(VfagentError, match="cannot join br0"), open_taps((TAP,), host):
        pass
    assert host.network.link(TAP.name) is None


def test_without_taps_the_monitor_sets_no_timer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each resync asks for it, and a host at rest is not to be woken for nothing."""
    delays = list[float]()

    async def scenario() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda delay_s, *_: delays.append(delay_s))
        TapMonitor(host, WorkerCalls(Workers()), {}, "").attach_soon()

    run_to_end(scenario())
    assert not delays
