# SPDX-License-Identifier: Apache-2.0
"""rtnetlink through pyroute2, on real links. test_pyroute2_versions.py runs this file with other pyroute2s."""

import asyncio
import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.host.leaks import run_to_end
from tests.host.namespace import add_veth, ip, link
from tests.host.netlink import (
    NOT_REPORTED,
    VF_LINK_STATE,
    VF_MAC,
    VF_NODE_GUID,
    VF_PORT_GUID,
    VF_RATE,
    VF_RSS,
    VF_SPOOFCHK,
    VF_TRUST,
    VF_VLAN,
    VF_VLAN_LIST,
    VfInfo,
    attribute,
    attributes,
    link_message,
    vf_attributes,
    vfs_attributes,
)
from vfagent.errors import answer_text
from vfagent.kernel import netlink
from vfagent.kernel.device_users import KernelDeviceUsers
from vfagent.kernel.devlink import KernelDevlink
from vfagent.kernel.host_network import KernelNetwork
from vfagent.kernel.links import link_facts, link_in
from vfagent.kernel.protocols import Host, LinkFacts
from vfagent.kernel.routes import KernelRoutes
from vfagent.kernel.rtnl import KernelRtnl
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.kernel.udev import NoUdevDatabase
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import LinkState, Rate, VfSettings, Vlan, VlanProtocol
from vfagent.process import worker
from vfagent.reconcile.observe_netdevs import management_of
from vfagent.store.move_journal import MoveJournal

ABSENT = 9999


@pytest.fixture
def veth(kernel: None) -> int:
    return add_veth("pf0", "wire0")


def test_a_link_is_read_in_full(veth: int) -> None:
    shown = link("pf0")
    facts = KernelRtnl().link(veth, vfs=True)
    assert facts == LinkFacts(
        ifindex=veth, name="pf0", mac=shown["address"], permanent_mac=None, mtu=1500, admin_up=False, carrier=False
    )


def test_the_alternative_names_of_a_link_are_read(veth: int) -> None:
    """systemd gives them to every NIC (AlternativeNamesPolicy=); up to 127 bytes each."""
    names = ("enp59s0f0np0", "a" * 127)
    ip("link", "property", "add", "dev", "pf0", "altname", names[0], "altname", names[1])
    facts = KernelRtnl().link(veth, vfs=True)
    assert facts is not None
    assert (facts.name, set(facts.altnames)) == ("pf0", set(names))


def test_state_carrier_and_master_follow_the_link(veth: int) -> None:
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "set", "pf0", "master", "br0", "up")
    ip("link", "set", "wire0", "up")
    facts = KernelRtnl().link(veth, vfs=False)
    assert facts is not None
    assert (facts.admin_up, facts.carrier, facts.master) == (True, True, link("br0")["ifindex"])


def test_mtu_is_set(veth: int) -> None:
    KernelRtnl().set_mtu(veth, 1400)
    assert link("pf0")["mtu"] == 1400


def test_a_link_is_set_up_and_down(veth: int) -> None:
    KernelRtnl().set_admin_state(veth, up=True)
    assert "UP" in link("pf0")["flags"]
    KernelRtnl().set_admin_state(veth, up=False)
    assert "UP" not in link("pf0")["flags"]


def test_a_deleted_link_is_none(veth: int) -> None:
    ip("link", "del", "pf0")
    assert KernelRtnl().link(veth, vfs=False) is None


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    "request_",
    [
        lambda rtnl: rtnl.set_mtu(ABSENT, 1500),
        lambda rtnl: rtnl.set_admin_state(ABSENT, up=True),
        lambda rtnl: rtnl.set_vfs(ABSENT, {0: VfSettings(trust=True)}),
        lambda rtnl: rtnl.link(ABSENT, vfs=True),
    ],
    ids=["mtu", "state", "vf", "link"],
)
def test_a_missing_link_is_the_kernels_enodev(request_: Any) -> None:
    with pytest.raises(OSError) as raised:
        request_(KernelRtnl())
    assert raised.value.errno == errno.ENODEV


def test_a_refused_value_is_the_kernels_einval(veth: int) -> None:
    with pytest.raises(OSError) as raised:
        KernelRtnl().set_mtu(veth, 1_000_000)
    assert raised.value.errno == errno.EINVAL


def test_a_refusal_has_the_kernel_s_own_words(veth: int) -> None:
    """Both ways: messages by struct alone, and pyroute2's."""
    with pytest.raises(OSError) as by_struct:
        KernelRtnl().set_mtu(veth, 1_000_000)
    assert answer_text(by_struct.value) == "EINVAL (Invalid argument): mtu greater than device maximum"
    with pytest.raises(OSError) as by_pyroute2:
        KernelNetwork().add_address(veth, "10.0.0.1/64")
    assert answer_text(by_pyroute2.value) == "EINVAL (Invalid argument): ipv4: Invalid prefix length"


@pytest.mark.parametrize("capped", [True, False])
@pytest.mark.parametrize("words", [b"VLAN ID is too large\0", b"", b"\xff\0"])
def test_the_words_are_found_after_the_request_or_its_header(words: bytes, *, capped: bool) -> None:
    request = struct.pack("=IHHII", 16 if capped else 20, 16, 5, 1, 0)
    body = struct.pack("=i", -errno.EOPNOTSUPP) + request + (b"" if capped else b"body") + attribute(1, words)
    flags = 0x200 | (0x100 if capped else 0)
    with pytest.raises(OSError) as raised:
        list(netlink.messages(struct.pack("=IHHII", 16 + len(body), 2, flags, 1, 0) + body))
    text = {b"": "EOPNOTSUPP (Operation not supported)", b"\xff\0": "EOPNOTSUPP (Operation not supported): \ufffd"}
    wanted = text.get(words, "EOPNOTSUPP (Operation not supported): VLAN ID is too large")
    assert answer_text(raised.value) == wanted


def test_addressed_links_are_those_with_more_than_a_link_local_address(veth: int) -> None:
    other = add_veth("pf1", "wire1", up=True)
    ip("link", "set", "lo", "up")
    ip("addr", "add", "fe80::1/64", "dev", "pf1", "nodad")
    assert KernelRtnl().addressed() == frozenset()
    ip("addr", "add", "192.0.2.9/24", "dev", "pf0")
    ip("addr", "add", "2001:db8:1::9/64", "dev", "pf1", "nodad")
    assert KernelRtnl().addressed() == {veth, other}


def test_an_interrupted_dump_of_addresses_is_repeated(veth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """NLM_F_DUMP_INTR: with an address missing, a port would seem unused."""
    ip("addr", "add", "192.0.2.9/24", "dev", "pf0")
    read, answers = netlink.messages, list[int]()

    def interrupted(data: bytes) -> Iterator[netlink.Message]:
        answers.append(len(data))
        for kind, flags, body in read(data):
            yield (
                kind,
                flags | (netlink.F_DUMP_INTR if len(answers) == 1 else 0),
                body[:4] if len(answers) == 1 else body,
            )

    monkeypatch.setattr(netlink, "messages", interrupted)
    assert KernelRtnl().addressed() == {veth}


def test_a_dump_of_addresses_that_is_always_interrupted_is_an_error(veth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "F_DUMP_INTR", ~0)
    ip("addr", "add", "192.0.2.9/24", "dev", "pf0")
    with pytest.raises(OSError, match="temporarily unavailable"):
        KernelRtnl().addressed()


@pytest.fixture
def route(veth: int) -> int:
    """pf0 carries the default route."""
    ip("link", "set", "wire0", "up")
    ip("link", "set", "pf0", "up")
    ip("addr", "add", "10.0.0.2/24", "dev", "pf0")
    ip("route", "add", "default", "via", "10.0.0.1")
    return veth


@pytest.mark.usefixtures("veth")
def test_without_a_default_route_no_link_is_reported() -> None:
    assert KernelRtnl().management() == {}


def test_the_default_route_names_its_link(route: int) -> None:
    assert KernelRtnl().management() == {route: "carries the default route"}


def test_an_ipv6_default_route_names_its_link(veth: int) -> None:
    for name in ("wire0", "pf0"):
        ip("link", "set", name, "up")
    ip("addr", "add", "2001:db8:5::2/64", "dev", "pf0", "nodad")
    ip("route", "add", "default", "via", "2001:db8:5::1", "dev", "pf0")
    assert KernelRtnl().management() == {veth: "carries the default route"}


def test_the_administrators_session_names_its_link(route: int, monkeypatch: pytest.MonkeyPatch) -> None:
    other = add_veth("pf1", "wire1", up=True)
    ip("addr", "add", "10.7.0.2/24", "dev", "pf1")
    monkeypatch.setenv("SSH_CONNECTION", "10.7.0.99 51000 10.7.0.2 22")
    assert KernelRtnl().management() == {route: "carries the default route", other: "carries an SSH session"}


def host() -> Host:
    network = KernelNetwork()
    return Host(
        RootedSysfs(),
        KernelRtnl(),
        KernelDevlink(),
        NoUdevDatabase(),
        network,
        KernelRoutes(),
        MoveJournal(Path("/nowhere")),
        KernelDeviceUsers(),
    )


@pytest.mark.usefixtures("route")
def test_a_pf_with_the_default_route_is_reported() -> None:
    assert management_of(host(), "pf0") == "carries the default route"
    assert management_of(host(), "wire0") is None


@pytest.mark.usefixtures("veth")
def test_a_pf_below_the_bridge_with_the_default_route_is_reported() -> None:
    ip("link", "add", "br0", "type", "bridge")
    for name in ("br0", "wire0"):
        ip("link", "set", name, "up")
    ip("link", "set", "pf0", "master", "br0", "up")
    ip("addr", "add", "10.0.0.2/24", "dev", "br0")
    ip("route", "add", "default", "via", "10.0.0.1")
    assert management_of(host(), "pf0") == "is below br0, which carries the default route"


def test_netlink_works_in_a_worker_forked_from_a_running_event_loop(veth: int) -> None:
    """pyroute2 0.9 has its own event loops; the worker is forked from the agent's, and has threads."""

    def body(send: worker.Send) -> None:
        with ThreadPoolExecutor(2) as pool:
            send([link and link.ifindex for link in pool.map(lambda _: KernelRtnl().link(veth, vfs=True), range(6))])
        send(KernelDevlink().eswitch_mode(PciAddress("0000:01:00.0")))

    async def call_worker() -> tuple[list[Any], int]:
        loop, reports = asyncio.get_running_loop(), list[Any]()
        child = worker.start(body)
        ended = loop.create_future()
        loop.add_reader(child.pidfd, ended.set_result, None)
        await ended
        loop.remove_reader(child.pidfd)
        reports += child.read()
        return reports, child.close()

    assert run_to_end(call_worker()) == ([[veth] * 6, None], 0)


def test_a_hundred_reads_leave_no_socket_open(veth: int) -> None:
    for _ in range(100):
        assert KernelRtnl().link(veth, vfs=True)


# The bytes of requests.

EVERYTHING = VfSettings(
    mac="52:54:00:bb:00:05",
    vlan=Vlan(100, 3, VlanProtocol.DOT1AD),
    rate=Rate(10, 1000),
    spoof_check=False,
    trust=True,
    link_state=LinkState.DISABLE,
    rss_query=True,
)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every netlink datagram that this process sends."""
    datagrams: list[bytes] = []

    def spy(name: str) -> Any:
        original = getattr(socket.socket, name)

        def send(self: socket.socket, data: Any, *rest: Any) -> Any:
            if self.family == socket.AF_NETLINK:
                datagrams.append(bytes(data))
            return original(self, data, *rest)

        return send

    for name in ("send", "sendto"):
        monkeypatch.setattr(socket.socket, name, spy(name))
    return datagrams


def request_for(veth: int, sent: list[bytes], settings: VfSettings, index: int = 5) -> dict[int, bytes]:
    """A veth has no VFs: the kernel refuses the request, which has been sent by then."""
    with pytest.raises(OSError) as raised:
        KernelRtnl().set_vfs(veth, {index: settings})
    assert raised.value.errno == errno.EOPNOTSUPP
    return vf_attributes(sent[-1])


def test_several_vfs_are_set_in_one_request(veth: int, sent: list[bytes]) -> None:
    with pytest.raises(OSError):
        KernelRtnl().set_vfs(veth, {index: EVERYTHING for index in (0, 3, 5)})
    vfs = vfs_attributes(sent[-1])
    assert [struct.unpack_from("=I", vf[VF_MAC])[0] for vf in vfs] == [0, 3, 5]
    assert [len(vf) for vf in vfs] == [len(vfs[0])] * 3


def test_all_settings_of_a_vf_are_sent_in_one_request(veth: int, sent: list[bytes]) -> None:
    vf = request_for(veth, sent, EVERYTHING)
    assert set(vf) == {VF_MAC, VF_VLAN_LIST, VF_RATE, VF_SPOOFCHK, VF_TRUST, VF_LINK_STATE, VF_RSS}
    assert vf[VF_RSS] == struct.pack("=II", 5, 1)
    assert vf[VF_MAC][:10] == struct.pack("=I", 5) + bytes.fromhex("525400bb0005")
    assert vf[VF_RATE] == struct.pack("=III", 5, 10, 1000)
    assert vf[VF_SPOOFCHK] == struct.pack("=II", 5, 0)
    assert vf[VF_TRUST] == struct.pack("=II", 5, 1)
    assert vf[VF_LINK_STATE] == struct.pack("=II", 5, 2)


def test_each_guid_is_sent_in_an_ifla_vf_info_of_its_own(veth: int, sent: list[bytes]) -> None:
    """do_setvfinfo() returns after the first of them, and ignores the other."""
    node_guid, port_guid = "02:00:00:03:00:00:41:10", "02:00:00:03:00:00:41:11"
    settings = {5: VfSettings(trust=True, node_guid=node_guid, port_guid=port_guid), 6: VfSettings(port_guid=port_guid)}
    with pytest.raises(OSError):
        KernelRtnl().set_vfs(veth, settings)
    trusted, node, port, other = vfs_attributes(sent[-1])
    assert set(trusted) == {VF_TRUST}
    assert node == {VF_NODE_GUID: struct.pack("=I4xQ", 5, 0x0200000300004110)}
    assert port == {VF_PORT_GUID: struct.pack("=I4xQ", 5, 0x0200000300004111)}
    assert other == {VF_PORT_GUID: struct.pack("=I4xQ", 6, 0x0200000300004111)}


def test_a_vlan_protocol_is_sent_in_16_bytes(veth: int, sent: list[bytes]) -> None:
    """struct ifla_vf_vlan_info with its padding; to the 14 bytes of its fields the kernel answers EINVAL."""
    ((kind, payload),) = attributes(request_for(veth, sent, EVERYTHING)[VF_VLAN_LIST])
    assert kind == 1
    assert payload == struct.pack("=III", 5, 100, 3) + struct.pack(">HH", 0x88A8, 0)
    assert len(payload) == 16


@pytest.mark.parametrize("vlan", [Vlan(0), Vlan(0, 0, VlanProtocol.DOT1AD), Vlan(4094, 7)])
def test_a_vlan_without_a_protocol_is_sent_in_the_old_attribute(veth: int, sent: list[bytes], vlan: Vlan) -> None:
    assert request_for(veth, sent, VfSettings(vlan=vlan)) == {VF_VLAN: struct.pack("=III", 5, vlan.id, vlan.qos)}


@pytest.mark.parametrize(("state", "number"), [(LinkState.AUTO, 0), (LinkState.ENABLE, 1), (LinkState.DISABLE, 2)])
def test_link_states_are_the_kernels_numbers(veth: int, sent: list[bytes], state: LinkState, number: int) -> None:
    assert request_for(veth, sent, VfSettings(link_state=state)) == {VF_LINK_STATE: struct.pack("=II", 5, number)}


def test_a_setting_that_is_none_is_not_sent(veth: int, sent: list[bytes]) -> None:
    assert set(request_for(veth, sent, VfSettings(trust=False), index=0)) == {VF_TRUST}


# The bytes of answers.


def decoded(data: bytes) -> LinkFacts:
    return link_facts(link_in(data))


def test_a_vf_is_read_in_full() -> None:
    info = VfInfo(3, "52:54:00:bb:00:03", 100, 5, 0x88A8, 1, 1, 1, 10, 1000)
    facts = decoded(link_message(7, "ens1f0", info.pack(), flags=0x10001))
    assert (facts.ifindex, facts.name, facts.mac, facts.mtu) == (7, "ens1f0", "02:00:00:00:00:01", 1500)
    assert facts.admin_up
    assert facts.carrier
    assert facts.vfs == {
        3: VfSettings(
            mac="52:54:00:bb:00:03",
            vlan=Vlan(100, 5, VlanProtocol.DOT1AD),
            rate=Rate(10, 1000),
            spoof_check=True,
            trust=True,
            link_state=LinkState.ENABLE,
        )
    }


def test_a_setting_that_a_driver_does_not_report_is_none() -> None:
    """rtnl_fill_vfinfo() reports -1 for what ndo_get_vf_config leaves out."""
    vf = decoded(link_message(7, "ens1f0", VfInfo(0, spoofchk=NOT_REPORTED, trust=NOT_REPORTED).pack())).vfs[0]
    assert (vf.spoof_check, vf.trust) == (None, None)
    off = decoded(link_message(7, "ens1f0", VfInfo(0, spoofchk=0, trust=0).pack())).vfs[0]
    assert (off.spoof_check, off.trust) == (False, False)


@pytest.mark.parametrize(("reported", "value"), [(1, True), (0, False), (NOT_REPORTED, None)])
def test_whether_a_vf_may_ask_for_its_rss_key_is_read(*, reported: int, value: bool | None) -> None:
    assert decoded(link_message(7, "ens1f0", VfInfo(0, rss_query=reported).pack())).vfs[0].rss_query is value


IPOIB = "00:00:10:49:fe:80:00:00:00:00:00:00:02:00:00:03:00:00:41:00"


def test_an_infiniband_vf_is_read_without_the_pfs_own_address() -> None:
    """ipoib_get_vf_config() copies the PF's address, mlx5_ib_get_vf_config() zeros for what is Ethernet's."""
    info = VfInfo(0, IPOIB[:17], spoofchk=0, link_state=1, guids=(0x0200000300004110, 0))
    facts = decoded(link_message(7, "ibp65s0", info.pack(), mac=IPOIB))
    node, port = "02:00:00:03:00:00:41:10", "00:00:00:00:00:00:00:00"
    vf = VfSettings(link_state=LinkState.ENABLE, node_guid=node, port_guid=port)
    assert (facts.mac, facts.vfs) == (IPOIB, {0: vf})


def test_guids_that_an_older_kernel_does_not_report_are_none() -> None:
    vf = decoded(link_message(7, "ibp65s0", VfInfo(0).pack(), mac=IPOIB)).vfs[0]
    assert vf == VfSettings(link_state=LinkState.AUTO)


def test_a_vlan_is_read_from_the_old_attribute_of_older_kernels() -> None:
    info = VfInfo(0, vlan=12, qos=1, with_vlan_list=False)
    assert decoded(link_message(7, "ens1f0", info.pack())).vfs[0].vlan == Vlan(12, 1)


def test_two_hundred_vfs_are_read_with_their_settings() -> None:
    infos = [VfInfo(n, f"52:54:00:00:00:{n:02x}", vlan=n + 1, trust=n % 2, max_rate=n) for n in range(200)]
    vfs = decoded(link_message(7, "ens1f0", *(info.pack() for info in infos))).vfs
    assert sorted(vfs) == list(range(200))
    assert all(vfs[n].mac == f"52:54:00:00:00:{n:02x}" and vfs[n].vlan == Vlan(n + 1) for n in range(200))
    assert all(vfs[n].trust == bool(n % 2) and vfs[n].rate == Rate(0, n) for n in range(200))


def test_a_link_without_vfs_has_none() -> None:
    assert decoded(link_message(7, "ens1f0")).vfs == {}


def test_only_the_needed_part_of_pyroute2_is_loaded() -> None:
    """pyroute2's __init__ imports a database and an HTTP server, which double the memory of an idle service."""
    program = "import sys; from vfagent.kernel.iproute import load; load(); print(*sys.modules)"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=root
    )
    loaded = set(done.stdout.split())
    assert "pyroute2.iproute.linux" in loaded
    assert not loaded & {"pyroute2.ndb.main", "sqlite3", "http.server"}


# /proc/net is hidden from the service (ProcSubset=pid). With a handler: as the loaded service logs.
WITHOUT_PSCHED = """
import builtins, logging, sys
records, real = [], builtins.open
def hidden(path, *args, **kwargs):
    if str(path) == "/proc/net/psched":
        records.append("hidden")
        raise FileNotFoundError(2, "No such file or directory", path)
    return real(path, *args, **kwargs)
class Kept(logging.Handler):
    def emit(self, record):
        records.append(record.getMessage())
builtins.open = hidden
if sys.argv[1] == "handler":
    logging.basicConfig(level=logging.DEBUG, handlers=[Kept()])
from vfagent.kernel.iproute import load
load()
logging.getLogger("pyroute2.netlink").error("a real error")
print(*records, sep="\\n")
"""


@pytest.mark.parametrize(("logging_", "stderr"), [("handler", ""), ("none", "a real error\n")])
def test_pyroute2_loads_silently_where_proc_net_is_hidden(logging_: str, stderr: str) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    argv = [sys.executable, "-c", WITHOUT_PSCHED, logging_]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, cwd=root)
    assert done.stderr == stderr
    assert done.stdout.split("\n")[:-1] == ["hidden", *(["a real error"] if logging_ == "handler" else [])]
