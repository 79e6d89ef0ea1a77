# SPDX-License-Identifier: Apache-2.0
"""The globs of `match`, normalized to the kernel's spelling. Without a wildcard, each must be a value a PF can have."""

import re

from vfagent.model.pci import is_pci_address

PCI = 'a PCI address such as "0000:3b:00.0", or a pattern'
MAC = 'a MAC address such as "52:54:00:12:34:56", an InfiniBand port\'s GUID or address, or a pattern'
_IPOIB = "[0-9a-f]{2}(?::[0-9a-f]{2}){19}"
HARDWARE_ID = 'a hardware ID such as "8086" or "0x8086", or a pattern'


def name(text: str) -> str:
    """Raises ValueError for a pattern that can match no name, as the other functions do."""
    if text != text.strip():
        raise ValueError("allowed is a pattern without spaces around it")
    if _unclosed(text):
        raise ValueError('but "[" has no "]", allowed is a set of characters such as [ab], or [[] for a literal "["')
    return text


def path(text: str) -> str:
    if is_pci_address(text.lower()):
        raise ValueError(f'allowed is an ID_PATH such as "pci-{text}", or the key pci instead')
    return name(text)


def pci(text: str) -> str:
    domain_or_bus, colon, _ = text.lower().partition(":")
    short = bool(colon) and text.count(":") == 1 and len(domain_or_bus) <= 2
    full = name(f"0000:{text.lower()}" if short else text.lower())
    return _exact(full, PCI, fits=is_pci_address(full))


def mac(text: str) -> str:
    """Of an IPoIB address only the port's GUID lasts: before it is the queue pair, which each boot may change."""
    lower = name(text.lower())
    if re.fullmatch(_IPOIB, lower):
        return lower[-23:]
    return _exact(
        lower, MAC, fits=re.fullmatch("[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?:(?::[0-9a-f]{2}){2})?", lower) is not None
    )


def hardware_id(text: str) -> str:
    digits = name(text.lower().removeprefix("0x"))
    return _exact(digits, HARDWARE_ID, fits=re.fullmatch("[0-9a-f]{4}", digits) is not None)


def _exact(text: str, allowed: str, *, fits: bool) -> str:
    if not fits and not re.search(r"[*?\[]", text):
        raise ValueError(f"allowed is {allowed}")
    return text


def _unclosed(text: str) -> bool:
    """fnmatch takes "]" literally as the first character of a set, and "[" too where no "]" follows."""
    return "[" in re.sub(r"\[!?+\]?+[^\]]*\]", "", text)
