# SPDX-License-Identifier: Apache-2.0
"""PCI addresses and what their text alone determines."""

import re
from typing import NewType

PciAddress = NewType("PciAddress", str)
"""A PCI address in full form and lower case: `0000:3b:00.0`."""

_FULL = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")


def pci_address(text: str) -> PciAddress:
    """Return `text` as an address; accepts upper case and a missing domain. Raises ValueError."""
    full = text.strip().lower()
    if full.count(":") == 1:
        full = f"0000:{full}"
    if not _FULL.fullmatch(full):
        raise ValueError(f"{text!r} is not a PCI address such as 0000:3b:00.0")
    return PciAddress(full)


def is_pci_address(text: str) -> bool:
    return _FULL.fullmatch(text) is not None


def card_of(address: PciAddress, *, ari: bool) -> str:
    """The card that a function is part of: its functions share the bus, and without ARI the device number too.

    With ARI the 5 bits of the device number belong to the function: 3b:01.0 is function 8 of the card that 3b:00.0 is
    on. The kernel enables it on a port that has one device below it, and only for all of that bus (pci_configure_ari).
    """
    return address[: address.rindex(":" if ari else ".")]
