# SPDX-License-Identifier: Apache-2.0
"""The status of each PF and its text, kept until that PF changes: an event costs nothing for a host's other PFs."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from vfagent.model.codec import encode
from vfagent.model.status import PfStatus, Status
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.status import pf_status


class _CachedText(NamedTuple):
    status: PfStatus
    text: str


class StatusCache:
    def __init__(self) -> None:
        self._kept: dict[str, _CachedText] = {}

    def changed(self, address: str) -> None:
        self._kept.pop(address, None)

    def all_changed(self) -> None:
        self._kept.clear()

    def of(self, states: Iterable[PfState]) -> tuple[PfStatus, ...]:
        """By address."""
        return tuple(self._of(state).status for state in sorted(states, key=lambda state: state.address))

    def text(self, status: Status) -> str:
        """JSON of a status whose PFs are those that `of` gave last."""
        fields = {name: _text(value) for name, value in encode(replace(status, pfs=())).items()}
        fields["pfs"] = f"[{','.join(self._kept[pf.address].text for pf in status.pfs)}]"
        return f"{{{','.join(f'{_text(name)}:{value}' for name, value in fields.items())}}}"

    def _of(self, state: PfState) -> _CachedText:
        kept = self._kept.get(state.address)
        if kept is None:
            status = pf_status(state)
            kept = self._kept[state.address] = _CachedText(status, _text(encode(status)))
        return kept


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
