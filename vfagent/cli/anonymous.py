# SPDX-License-Identifier: Apache-2.0
"""Text without a host's MACs, GUIDs, IP addresses and names: the same one becomes the same word everywhere."""

import hashlib
import ipaddress
import re
import secrets
from collections.abc import Iterable

# With colons, with dashes, and in fours, as sysfs has GUIDs.
_MAC = re.compile(r"(?<![0-9a-fA-F:])(?:[0-9a-fA-F]{2}:){5,19}[0-9a-fA-F]{2}(?![0-9a-fA-F]|:[0-9a-fA-F])")
_DASHED = re.compile(r"(?<![0-9a-zA-Z-])(?:[0-9a-fA-F]{2}-){5,7}[0-9a-fA-F]{2}(?![0-9a-zA-Z]|-[0-9a-fA-F])")
_GUID = re.compile(r"(?<![0-9a-fA-F:])(?:[0-9a-fA-F]{4}:){3}[0-9a-fA-F]{4}(?![0-9a-fA-F]|:[0-9a-fA-F:])")
_NAME = re.compile(r"(?<![0-9a-zA-Z])((?:en|ib|sl|wl|ww)x)([0-9a-f]{12})(?![0-9a-f])")
# A digest of a policy has the same form: a bare one is replaced where it is known from elsewhere.
_BARE = re.compile(r"(?<![0-9a-zA-Z])((?:0x)?)([0-9a-fA-F]{12}|[0-9a-fA-F]{16}|[0-9a-fA-F]{40})(?![0-9a-zA-Z])")
_TEMPLATE = re.compile(r"(?<![0-9a-fA-F:])(?:[0-9a-fA-F]{2}:){5}(?=\{index)")
_IPV4 = re.compile(r"(?<![0-9])(?<![0-9]\.)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\.?[0-9])")
_IPV6 = re.compile(r"(?<![0-9a-zA-Z:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![0-9a-zA-Z:])")
_KEPT = {"0.0.0.0", "255.255.255.255", "::", "::1"}


class Anonymous:
    """`names`: of the host, and what else is its own, such as the machine-id. `texts`: all that will be replaced."""

    def __init__(self, names: dict[str, str], texts: Iterable[str] = (), key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(16)
        self._names = {name: word for name, word in names.items() if len(name) > 1}
        self._known = {_bare(address) for text in texts for address in _addresses(text)}

    def text(self, text: str) -> str:
        for name, word in self._names.items():
            text = re.sub(rf"(?<![0-9A-Za-z_-]){re.escape(name)}(?![0-9A-Za-z_-])", word, text)
        text = _NAME.sub(lambda match: match[1] + self._hidden(match[2]), text)
        text = _BARE.sub(lambda match: match[1] + self._hidden_if_known(match[2]), text)
        text = _MAC.sub(lambda match: self._in_form(match[0], ":", 2), text)
        text = _DASHED.sub(lambda match: self._in_form(match[0], "-", 2), text)
        text = _GUID.sub(lambda match: self._in_form(match[0], ":", 4), text)
        text = _TEMPLATE.sub(lambda match: _split(self._hidden(_bare(match[0]) + "00")[:-2], ":", 2) + ":", text)
        text = _IPV6.sub(lambda match: self._ip(match[0]), text)
        return _IPV4.sub(lambda match: self._ip(match[0]), text)

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.lower().encode(), key=self._key, digest_size=20).digest()

    def _in_form(self, text: str, separator: str, width: int) -> str:
        return _split(self._hidden(_bare(text)), separator, width)

    def _hidden_if_known(self, digits: str) -> str:
        return self._hidden(digits.lower()) if digits.lower() in self._known else digits

    def _hidden(self, digits: str) -> str:
        """With its last byte, so that those of a template stay in a row; its kind of address is not changed."""
        if not digits.strip("0") or not digits.strip("f"):
            return digits
        octets = list(self._digest(digits[:-2])[: len(digits) // 2 - 1])
        octets[0] = (octets[0] & 0xFC) | (int(digits[:2], 16) & 0x03)
        return bytes(octets).hex() + digits[-2:]

    def _ip(self, text: str) -> str:
        if _MAC.fullmatch(text):  # a GUID, which was replaced already
            return text
        try:
            address = ipaddress.ip_address(text)
        except ValueError:  # with the colon of a sentence behind it
            return self._ip(text[:-1]) + ":" if text.endswith(":") and not text.endswith("::") else text
        if text in _KEPT or address.is_loopback:
            return text
        digest = self._digest(str(address))
        if address.version == 4:
            return f"10.{digest[0]}.{digest[1]}.{digest[2]}"
        return str(ipaddress.IPv6Address(b"\xfd" + digest[:15]))


def _addresses(text: str) -> Iterable[str]:
    for pattern in (_MAC, _DASHED, _GUID):
        yield from (match[0] for match in pattern.finditer(text))
    yield from (match[2] for match in _NAME.finditer(text))


def _bare(text: str) -> str:
    return text.replace(":", "").replace("-", "").lower()


def _split(digits: str, separator: str, width: int) -> str:
    return separator.join(digits[at : at + width] for at in range(0, len(digits), width))
