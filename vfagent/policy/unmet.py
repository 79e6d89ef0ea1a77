# SPDX-License-Identifier: Apache-2.0
"""Why a rule matches no PF: the first key that none meets, and what may have been meant."""

from fnmatch import fnmatchcase

from vfagent.frozen import frozen
from vfagent.model.inventory import Pf
from vfagent.policy.match import macs_of, names_of
from vfagent.policy.spelling import nearest
from vfagent.policy.types import PfMatch

_NUMBERS = frozenset({"vendor", "device"})  # one digit less or more is another card, no mistake


@frozen
class UnmetKey:
    """`meant`: what a PF has instead, where it is nearly the same."""

    key: str
    pattern: str
    meant: str | None

    @property
    def nearly(self) -> bool:
        """Whether the rule names what is nearly there: a netdev by its old name, a card by its old slot."""
        return self.meant is not None and self.key not in _NUMBERS

    def describe(self) -> str:
        return f"{self.key} = {self.pattern!r}" + (f" (did you mean {self.meant!r}?)" if self.meant else "")


def unmet_key(match: PfMatch, pfs: list[Pf], free: list[Pf]) -> UnmetKey | None:
    """`free`: the PFs that may have been meant, as no other rule takes them."""
    nearby = _values(free)
    for key, present in _values(pfs).items():
        pattern = getattr(match, key)
        if pattern is not None and present and not any(fnmatchcase(value, pattern) for value in present):
            return UnmetKey(key, pattern, nearest(pattern, nearby[key]))
    return None


def _values(pfs: list[Pf]) -> dict[str, list[str]]:
    values: dict[str, list[str | None]] = {
        "driver": [pf.driver for pf in pfs],
        "path": [pf.path for pf in pfs],
        "pci": [str(pf.address) for pf in pfs],
        "vendor": [pf.vendor.removeprefix("0x") for pf in pfs],
        "device": [pf.device.removeprefix("0x") for pf in pfs],
        "mac": [mac for pf in pfs for netdev in pf.netdevs for mac in macs_of(netdev)],
        "interface": [name for pf in pfs for netdev in pf.netdevs for name in names_of(netdev)],
    }
    return {key: sorted({value for value in of_pfs if value}) for key, of_pfs in values.items()}
