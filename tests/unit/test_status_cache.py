# SPDX-License-Identifier: Apache-2.0
"""status.json, of which only what changed is made anew."""

import json

from tests.unit.metrics import views
from vfagent.model.codec import encode
from vfagent.model.status import Phase
from vfagent.reconcile.status import snapshot
from vfagent.service.status_cache import StatusCache


def test_the_text_is_the_status_as_json() -> None:
    kept = StatusCache()
    status = snapshot(kept.of([views.stuck(), views.converging()]), views.POLICY, "1", ready=True)
    assert json.loads(kept.text(status)) == json.loads(json.dumps(encode(status)))
    assert [pf.address for pf in status.pfs] == sorted(pf.address for pf in status.pfs)


def test_of_what_changed_the_new_is_said_and_the_rest_is_kept() -> None:
    kept, states = StatusCache(), [views.converging(), views.stuck()]
    before = {pf.address: pf for pf in kept.of(states)}
    states[0].stuck = True
    kept.changed(states[0].address)
    after = {pf.address: pf for pf in kept.of(states)}
    assert after[states[0].address].phase is Phase.STUCK
    assert after[states[1].address] is before[states[1].address]
    status = snapshot(kept.of(states), views.POLICY, "1", ready=True)
    assert json.loads(kept.text(status))["pfs"][0]["phase"] == "stuck"
