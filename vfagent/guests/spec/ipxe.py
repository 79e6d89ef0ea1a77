# SPDX-License-Identifier: Apache-2.0
"""The VFs that iPXE has drivers for, and the script that it runs. Pure."""

import ipaddress

from vfagent.policy.types import ChapRule, IpxeRule

# VFs by vendor and device, with the driver that lists them in iPXE's src/drivers/net.
# `rom list` compares this with a source tree, where the policy names one.
# It has none for VFs of mlx5 (golan lists PFs only) and of ConnectX-3.
DRIVERS_SOURCE = "https://github.com/ipxe/ipxe, v2.0.0 and its master of 2026-08-21"
DRIVERS = {
    **dict.fromkeys(("8086:10ca", "8086:1520"), "igbvf"),
    **dict.fromkeys(("8086:10ed", "8086:1515", "8086:1565", "8086:15a8", "8086:15c5"), "intelxvf"),
    **dict.fromkeys(("8086:154c", "8086:37cd", "8086:1889", "8086:1571", "8086:37d9"), "intelxlvf"),
    **dict.fromkeys(
        (
            *("14e4:1606", "14e4:1607", "14e4:1608", "14e4:1609", "14e4:16bd", "14e4:16c1", "14e4:16c5", "14e4:16dc"),
            *("14e4:1806", "14e4:1807", "14e4:1808", "14e4:1809", "14e4:1819", "14e4:181b"),
        ),
        "bnxt",
    ),
    **dict.fromkeys(("1d0f:ec20", "1d0f:ec21"), "ena"),
    "1af4:1041": "virtio-net",
}

# It repeats for ever: a target may come up after its guests.
_LOOP = """#!ipxe
set hostname {name}
:again
ifopen net0 || goto failed
{settings}
{boot} || goto failed
goto again
:failed
echo vfagent: guest {name}: cannot boot {what} through the VF; trying again
sleep 5
goto again
"""


# The first of SMBIOS' OEM strings (type 11, its count at offset 4 as the string's number): QEMU puts the secret there.
CHAP_SECRET = "${smbios/11.4.0}"


def script(name: str, rule: IpxeRule, chap: ChapRule | None = None) -> str:
    """The script for a guest without one of its own. It holds no secret: the guest's users can read a ROM."""
    # A device path of EFI has backslashes (UEFI 2.10, 10.3.5.4).
    file = f"--filename {rule.filename.replace('/', chr(92))} " if rule.filename else ""
    boot = f"sanboot {file}{rule.sanboot}" if rule.sanboot else "autoboot net0"
    what = rule.sanboot or "what DHCP names"
    login = [f"set username {chap.user}", f"set password {CHAP_SECRET}"] if chap else []
    own = [f"set initiator-iqn {rule.initiator}"] if rule.initiator else []
    return _LOOP.format(name=name, settings="\n".join((*_address(rule), *own, *login)), boot=boot, what=what)


def _address(rule: IpxeRule) -> list[str]:
    if rule.address in (None, "dhcp"):
        return ["ifconf net0 || goto failed"]
    own = ipaddress.ip_interface(rule.address or "")
    name_server = [f"set net0/dns{'6' if ':' in rule.dns else ''} {rule.dns}"] if rule.dns else []
    if own.version == 6:
        lines = [f"set net0/ip6 {own.ip}", f"set net0/len6 {own.network.prefixlen}"]
        return lines + ([f"set net0/gateway6 {rule.gateway}"] if rule.gateway else []) + name_server
    lines = [f"set net0/ip {own.ip}", f"set net0/netmask {own.netmask}"]
    return lines + ([f"set net0/gateway {rule.gateway}"] if rule.gateway else []) + name_server
