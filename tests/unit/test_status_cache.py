# SPDX-License-Identifier: Apache-2.0
"""status.json, of which only the changed PFs are encoded again."""

import json

import pytest

from tests.unit.metrics import views
from vfagent.model.codec import encode
from vfagent.model.status import Phase
from vfagent.reconcile.pf_state import Work
from vfagent.reconcile.status import snapshot
from vfagent.service.status_cache import StatusCache


def test_the_text_is_the_status_as_json() -> None:
    cache = StatusCache()
    status = snapshot(cache.of([views.stuck(), views.converging()]), views.POLICY, "1", ready=True)
    assert json.loads(cache.text(status)) == json.loads(json.dumps(encode(status)))
    assert [pf.address for pf in status.pfs] == sorted(pf.address for pf in status.pfs)


def test_a_pf_that_comes_back_begins_its_phase_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, state, clock = StatusCache(), views.stuck(), 100.0
    monkeypatch.setattr("vfagent.service.status_cache.time.time", lambda: clock)
    assert [pf.since for pf in cache.of([state])] == [100.0]
    cache.changed(state.address)
    clock = 200.0
    assert cache.of([]) == ()
    assert [pf.since for pf in cache.of([state])] == [200.0]


def test_only_a_changed_pf_gets_a_new_status() -> None:
    cache, states = StatusCache(), [views.converging(), views.stuck()]
    before = {pf.address: pf for pf in cache.of(states)}
    states[0].work = Work.STUCK
    cache.changed(states[0].address)
    after = {pf.address: pf for pf in cache.of(states)}
    assert after[states[0].address].phase is Phase.STUCK
    assert after[states[1].address] is before[states[1].address]
    status = snapshot(cache.of(states), views.POLICY, "1", ready=True)
    assert json.loads(cache.text(status))["pfs"][0]["phase"] == "stuck"
