# SPDX-License-Identifier: Apache-2.0
"""The status of each PF and its JSON, cached until that PF changes: an event costs nothing for the other PFs."""

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from vfagent.model.codec import encode
from vfagent.model.status import PfStatus, Phase, Status
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.status import pf_status


class _CachedText(NamedTuple):
    status: PfStatus
    text: str


class StatusCache:
    def __init__(self) -> None:
        self._cached: dict[str, _CachedText] = {}
        self._since: dict[str, tuple[Phase, float]] = {}

    def changed(self, address: str) -> None:
        self._cached.pop(address, None)

    def all_changed(self) -> None:
        self._cached.clear()

    def of(self, states: Iterable[PfState]) -> tuple[PfStatus, ...]:
        """The status of these PFs, sorted by address. Another one is gone: it begins anew when it is there again."""
        present = sorted(states, key=lambda state: state.address)
        self._since = {pf.address: self._since[pf.address] for pf in present if pf.address in self._since}
        return tuple(self._of(state).status for state in present)

    def text(self, status: Status) -> str:
        """The JSON of a status whose PFs are those that `of` returned last."""
        fields = {name: _text(value) for name, value in encode(replace(status, pfs=())).items()}
        fields["pfs"] = f"[{','.join(self._cached[pf.address].text for pf in status.pfs)}]"
        return f"{{{','.join(f'{_text(name)}:{value}' for name, value in fields.items())}}}"

    def _of(self, state: PfState) -> _CachedText:
        cached = self._cached.get(state.address)
        if cached is None:
            status = replace(pf_status(state), since=self._came_into(state.address, state.phase))
            cached = self._cached[state.address] = _CachedText(status, _text(encode(status)))
        return cached

    def _came_into(self, address: str, phase: Phase) -> float:
        """When the phase began. Not part of the scheduler's state: nothing is decided by it."""
        if (known := self._since.get(address)) is None or known[0] is not phase:
            known = self._since[address] = (phase, time.time())
        return known[1]


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
