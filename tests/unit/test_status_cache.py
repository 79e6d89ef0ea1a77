# SPDX-License-Identifier: Apache-2.0
"""status.json, of which only the changed PFs are encoded again."""

import json

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
