# SPDX-License-Identifier: Apache-2.0
"""What a key means that its table does not have: misspelt, another program's word, or a key of another table."""

from collections.abc import Iterator

from vfagent.policy.problems import KeyPath
from vfagent.policy.spelling import nearest
from vfagent.policy.types import Policy
from vfagent.policy.value_types import ArrayOfTables, Declared, Table, declared

# Words of ip-link(8), sysfs, systemd.link(5), netplan, libvirt and QEMU. Case, "-" and "_" do not count.
_OTHER_WORDS = {
    "vfs": "numvfs, sriovnumvfs, vfcount, vfnumber, virtualfunctioncount, virtualfunctions, count, hostdev, hostpci",
    "rss_query": "queryrss, rssqueryen, queryrssen",
    "interface": "pfnames, netdev, ifname, iface, dev, nic, netdevice, devicename, originalname, link",
    "pci": "rootdevices, slot, bus, address, bdf, pciaddress, pcislot, sbdf, busaddress",
    "mac": "permaddr, macaddress, hwaddr, hwaddress, ether, lladdr, address, permanentmacaddress",
    "driver": "module, kmod, bind, vfdriver, drivername, deliverymode",
    "index": "vf, vfs, number, nr, virtualfunction, vfindex, id",
    "vlan": "vlanid, vid, portvlan, pvid, tag, id",
    "vlan_protocol": "proto, protocol, vlanproto, ethertype",
    "qos": "prio, priority, qualityofservice, pcp, vlanqos",
    "spoof_check": "spoofchk, spoof, macspoofcheck, antispoof",
    "link_state": "state, linkstate, link, carrier",
    "min_tx_rate": "mintx, minrate, minbandwidth",
    "max_tx_rate": "maxtx, maxrate, rate, bandwidth, maxbandwidth, limit",
    "mtu": "mtubytes, maxmtu",
    "eswitch": "eswitchmode, embeddedswitchmode, switchmode, switchdev",
    "hwmode": "bridgemode, veb, vepa",
    "addresses": "address, ip, addr, ipaddr, ips, ipaddress",
    "bridge": "master, br, bridgeport",
    "memory": "mem, ram, memorymib, currentmemory, m",
    "cpus": "vcpus, vcpu, smp, cpu, cores",
    "disk": "disks, drive, drives, volume",
    "kernel": "linux, vmlinuz",
    "image": "vmlinuz, bzimage, path",
    "cmdline": "append, commandline, args, options, bootargs",
    "initrd": "initramfs, ramdisk",
    "id": "vlan, vlanid, vid, tag",
    "path": "file, source, filename, idpath, image, src",
    "format": "type, driver",
    "readonly": "ro",
    "firmware": "bios, uefi, loader",
    "match": "selector, nicselector, where",
    "name": "title, rule",
    "gateway": "gw, via, gateway4, defaultroute",
    "resync": "interval, period, resyncperiod",
    "metrics": "listen, port, prometheus, weblistenaddress",
    "pf": "nic, nics, card, cards, rule, rules, adapter, physicalfunction, physfn",
    "guest": "vm, vms, domain, machine, machines, virtualmachine",
    "agent": "global, service, settings, daemon, general, config",
    "vf": "virtualfunction, virtualfunctions, virtfn",
    "ipxe": "iscsi, pxe, boot, netboot, network",
    "unit": "systemd, resources, limits",
    "optional": "besteffort, required",
}
# What people write into a table, and where it is instead.
_ELSEWHERE: dict[tuple[str, ...], str] = {
    ("bridge", "ports"): "a VLAN interface and a VF in switchdev mode name their bridge: bridge = below [[pf.vlan]]",
    (
        "bridge",
        "interfaces",
    ): "a VLAN interface and a VF in switchdev mode name their bridge: bridge = below [[pf.vlan]]",
    ("bridge", "addresses"): "the addresses are those of the [[pf.vlan]] that names the bridge",
    ("bridge", "address"): "the addresses are those of the [[pf.vlan]] that names the bridge",
    ("pf", "deviceType"): "a VF's driver is driver in its [[pf.vf]]",
    ("pf", "enabled"): 'a rule is active while it is in the policy: put "#" before its lines',
    ("guest", "enabled"): "a guest of the policy is started; vfagent guest stop stops it",
    ("guest", "autostart"): "a guest of the policy is started; vfagent guest stop stops it",
    ("vlan", "gateway"): "vfagent sets no routes: they are the host's network configuration's",
    ("vlan", "routes"): "vfagent sets no routes: they are the host's network configuration's",
    **dict.fromkeys(
        (("guest", "vlan"), ("ipxe", "vlan"), ("kernel", "vlan")),
        "a guest's VLAN is vlan in the [[pf.vf]] of its VF, where the NIC tags its frames",
    ),
    **dict.fromkeys(
        (("vlan", "parent"), ("vlan", "link"), ("vlan", "dev"), ("vlan", "interface")),
        "a VLAN interface is on the PF of its rule",
    ),
}
_TRUNK_WORDS = ("vlans", "trunk", "vlantrunk", "trunks", "allowedvlans")


def unknown_key(name: str, known: tuple[str, ...], path: KeyPath, *, is_table: bool = False) -> str:
    """The message for an unknown key of the table at `path`; `is_table`: it is a table itself."""
    if "vlan_protocol" in known and _bare(name) in _TRUNK_WORDS:
        return (
            "found an unknown key: a VF has one port VLAN, and the NIC has no list; with vlan = 0 its guest tags frames"
        )
    names = tuple(part for part in path if isinstance(part, str))
    if (elsewhere := _ELSEWHERE.get((*names[-1:], name) if names else ("", ""))) is not None:
        return f"found an unknown key: {elsewhere}"
    if name == "vf" and "index" in known and not is_table:
        return 'found an unknown key, did you mean "index"?'
    if name != "name" and (above := _enclosing(name, path)) is not None:
        here = _header(path)
        return f"found a key of {above} below {here}: move it above {here}"
    if not path and (table := next((table for table in known if name in _keys_at([table])), None)) is not None:
        return _above_any_table(name, known) if not is_table else _header_without_table(name, table)
    if text := _misplaced(name, path, tables_with(name, names)):
        return text
    meant = next(_near(name, known), None)
    if meant is not None:
        has_header = not path and isinstance(_keys_at([])[meant].key.value_type, Table | ArrayOfTables)
        shown = _header((meant,)) if has_header else f'"{meant}"'
        return f"found an unknown key, did you mean {shown}? Allowed are {', '.join(known)}"
    beside = _misplaced(name, path, tables_with(name, names[:-1]))
    return beside or f"found an unknown key, allowed are {', '.join(known)}"


def _above_any_table(name: str, known: tuple[str, ...]) -> str:
    tables = [_header((table,)) for table in known if name in _keys_at([table])]
    where = f"below {tables[0]}" if len(tables) == 1 else "below the one that is meant"
    return f"found a key of {' or '.join(tables)} above any table: write {name} {where}"


def _header_without_table(name: str, table: str) -> str:
    """`[[vf]]` instead of `[[pf.vf]]`, `[metrics]` instead of a key of `[agent]`."""
    value_type = _keys_at([table])[name].key.value_type
    if not isinstance(value_type, Table | ArrayOfTables):
        return f"found {name} as a table, allowed is {name} = … below {_header((table,))}"
    return f"found {name} as a table of its own, allowed is {_header((table, name))}, below its {_header((table,))}"


def tables_with(name: str, names: tuple[str, ...]) -> list[str]:
    """The headers of the tables in a table that have this key."""
    keys = _keys_at(list(names)) if names and name != "name" else {}
    return [_header((*names, key)) for key in keys if name in _keys_at([*names, key])]


def _misplaced(name: str, path: KeyPath, tables: list[str]) -> str:
    if not tables:
        return ""
    if tables == ["[pf.match]"]:
        return f"found a key of match in {_header(path)}, allowed is match = {{ {name} = … }}"
    where = tables[0] if len(tables) == 1 else "the one that is meant"
    return f"found a key of {' and '.join(tables)} in {_header(path)}: write {name} below {where}"


def _near(name: str, known: tuple[str, ...]) -> Iterator[str]:
    if _bare(name) in (bare := {_bare(key): key for key in known}):
        yield bare[_bare(name)]
    yield from (key for key in known if _bare(name) in _OTHER_WORDS.get(key, "").split(", "))
    if (near := nearest(name, known)) is not None:
        yield near


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _enclosing(name: str, path: KeyPath) -> str | None:
    """The header of the nearest table above, one of whose keys this is."""
    names = [part for part in path if isinstance(part, str)]
    for depth in range(len(names) - 1, 0, -1):
        header, keys = _header(tuple(names[:depth])), _keys_at(names[:depth])
        if name in keys:
            return header
    return None


def _keys_at(names: list[str]) -> dict[str, Declared]:
    keys = dict(declared(Policy))
    for name in names:
        value_type = keys[name].key.value_type if name in keys else None
        keys = dict(declared(value_type.of)) if isinstance(value_type, Table | ArrayOfTables) else {}
    return keys


def _header(path: KeyPath) -> str:
    """`[[pf.vf]]`."""
    names = [part for part in path if isinstance(part, str)]
    value_type = _keys_at(names[:-1])[names[-1]].key.value_type if names else None
    name = ".".join(names)
    return f"[[{name}]]" if isinstance(value_type, ArrayOfTables) else f"[{name}]"
