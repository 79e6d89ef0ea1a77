# SPDX-License-Identifier: Apache-2.0
"""Text without the MACs, IP addresses and host names of a host: the same one becomes the same word everywhere."""

import hashlib
import ipaddress
import re
import secrets

_MAC = re.compile(r"(?<![0-9a-fA-F:])(?:[0-9a-fA-F]{2}:){5,19}[0-9a-fA-F]{2}(?![0-9a-fA-F:])")
_TEMPLATE = re.compile(r"(?<![0-9a-fA-F:])(?:[0-9a-fA-F]{2}:){5}(?=\{index)")
_IPV4 = re.compile(r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.])")
_IPV6 = re.compile(r"(?<![0-9a-zA-Z:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![0-9a-zA-Z:])")
_KEPT = {"0.0.0.0", "255.255.255.255", "::", "::1"}


class Anonymous:
    """`names`: of the host, and what else is its own, such as the machine-id."""

    def __init__(self, names: dict[str, str], key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(16)
        self._names = {name: word for name, word in names.items() if len(name) > 1}

    def text(self, text: str) -> str:
        for name, word in self._names.items():
            text = re.sub(rf"(?<![0-9A-Za-z_-]){re.escape(name)}(?![0-9A-Za-z_-])", word, text)
        text = _MAC.sub(lambda match: self._mac(match[0]), text)
        text = _TEMPLATE.sub(lambda match: f"{self._head(match[0][:-1])}:", text)
        text = _IPV6.sub(lambda match: self._ip(match[0]), text)
        return _IPV4.sub(lambda match: self._ip(match[0]), text)

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.lower().encode(), key=self._key, digest_size=20).digest()

    def _mac(self, mac: str) -> str:
        """With its last byte, so that those of a template stay in a row; its kind of address is not changed."""
        if not mac.strip("0:") or not mac.lower().strip("f:"):
            return mac
        return f"{self._head(mac[:-3])}:{mac[-2:]}"

    def _head(self, head: str) -> str:
        octets = list(self._digest(head)[: head.count(":") + 1])
        octets[0] = (octets[0] & 0xFC) | (int(head[:2], 16) & 0x03)
        return ":".join(f"{octet:02x}" for octet in octets)

    def _ip(self, text: str) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return text
        if text in _KEPT or address.is_loopback:
            return text
        digest = self._digest(str(address))
        if address.version == 4:
            return f"10.{digest[0]}.{digest[1]}.{digest[2]}"
        return str(ipaddress.IPv6Address(b"\xfd" + digest[:15]))
