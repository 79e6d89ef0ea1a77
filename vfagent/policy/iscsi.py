# SPDX-License-Identifier: Apache-2.0
"""`iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET` (RFC 4173, as iPXE reads it), and which disk that is."""

import re
from collections.abc import Iterator

from vfagent.frozen import frozen

FORM = "iscsi:server:protocol:port:LUN:target, as in iscsi:192.168.10.1::::iqn.2016-01.com.example:a"
_PORT = 3260
_LUN = re.compile(r"[0-9a-fA-F]{1,4}(?:-[0-9a-fA-F]{1,4}){0,3}")
_VARIABLE = re.compile(r"\$\{([^}]*)\}?")
# Settings of iPXE that differ from guest to guest, whatever scope stands before: `net0/mac`.
_OWN = frozenset({"asset", "board-serial", "chip", "hostname", "initiator-iqn", "ip", "ip6", "mac", "serial", "uuid"})


@frozen(slots=True)
class IscsiUrl:
    """One portal of a disk. Omitted parts have iSCSI's defaults. `lun` is decimal, as udev has it, or four numbers."""

    server: str
    port: int
    lun: str
    target: str

    @property
    def disk(self) -> str:
        """The same for every spelling of the same disk."""
        return f"iscsi:{_same_server(self.server)}::{self.port}:{self.lun}:{self.target.lower()}"

    @property
    def has_name(self) -> bool:
        """Whether the server is a host name, which takes DNS."""
        return _address(self.server) is None


def portals(text: str) -> list[str]:
    """The URLs of one disk: several, with a space between, are its portals."""
    return text.split()


def variable(text: str) -> str:
    """The first variable of iPXE in it, `${next-server}`; "" where it has none."""
    match = _VARIABLE.search(text)
    return match[0] if match else ""


def differs_by_guest(text: str) -> bool:
    """Whether a variable of iPXE makes it another URL for each guest."""
    return any(name.rpartition("/")[2].partition(":")[0] in _OWN for name in _VARIABLE.findall(text))


def iscsi_url(text: str) -> IscsiUrl:
    """Raises ValueError with what is wrong, and what is allowed."""
    server, rest = _server(text.removeprefix("iscsi:"))
    parts = rest.split(":", 3)
    if len(parts) < 4 or not (server and parts[3]):
        raise ValueError(f"which names no {'target' if server else 'server'}, allowed is {FORM}")
    protocol, port, lun, target = parts
    if protocol not in ("", "6", "tcp", "TCP"):
        raise ValueError(f'whose protocol is "{protocol}", allowed is nothing, or 6 for TCP')
    if port and not (port.isdecimal() and 0 < int(port) < 1 << 16):
        raise ValueError(f'whose port is "{port}", allowed is 1 to 65535, or nothing for {_PORT}')
    if lun and not _LUN.fullmatch(lun):
        raise ValueError(
            f'whose LUN is "{lun}", allowed is a hexadecimal number of at most four digits, or four of them, as in'
            " 000a-0000-0000-0000"
        )
    if target[0] == ":":
        raise ValueError(f'whose target is "{target}", allowed is a name; an IPv6 address is written in brackets')
    return IscsiUrl(server, int(port or _PORT), _same_lun(lun or "0"), target)


def _server(rest: str) -> tuple[str, str]:
    if not rest.startswith("["):
        server, _, rest = rest.partition(":")
        return server, rest
    server, closing, rest = rest[1:].partition("]")
    if not (closing and rest.startswith(":")) or _address(server) is None:
        raise ValueError(
            f"whose server is no IPv6 address in brackets, allowed is {FORM.replace('192.168.10.1', '[fd00::1]')}"
        )
    return server, rest[1:]


def _same_lun(text: str) -> str:
    numbers = [int(part, 16) for part in text.split("-")]
    numbers += [0] * (4 - len(numbers))
    return "-".join(f"{number:04x}" for number in numbers) if any(numbers[1:]) else str(numbers[0])


def _same_server(server: str) -> str:
    address = _address(server)
    if address is None:
        return server.rstrip(".").lower()
    return f"[{address}]" if ":" in address else address


def _address(server: str) -> str | None:
    """An IP address in its shortest form. One of IPv4 that is written as IPv6 is the IPv4 address."""
    import ipaddress  # only policies with addresses need it

    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)


def device_disk(path: str) -> str | None:
    """The disk of a name that udev gives an iSCSI device, as `IscsiUrl.disk` has it."""
    name = path.rpartition("/")[2] if path.startswith("/dev/disk/by-path/") else ""
    match = re.search(r"(?:^|-)ip-(.+):([0-9]+)-iscsi-(.+)-lun-([0-9]+|0x[0-9a-fA-F]{16})$", name)
    if match is None:
        return None
    server, port, target, lun = match.groups()
    number = "-".join(re.findall("....", lun[2:])) if lun.startswith("0x") else f"{int(lun):x}"
    server = server.strip("[]")
    return IscsiUrl(server, int(port), _same_lun(number), target).disk


def iscsi_partition(path: str) -> str | None:
    """`-part1` of a name that udev gives a partition of an iSCSI device."""
    name = re.fullmatch(r"(/.+)(-part[0-9]+)", path)
    return name[2] if name and device_disk(re.sub("/(?:[.]?/)+", "/", name[1])) else None


def iscsi_urls(texts: tuple[str | None, ...]) -> Iterator[str]:
    for text in texts:
        yield from (url for url in portals(text or "") if url.startswith("iscsi:"))
