# SPDX-License-Identifier: Apache-2.0
"""How many examples, and whether the same ones each time.

VFAGENT_MODEL_FACTOR multiplies what each test names: a half in `make check`, many in `make test`.
VFAGENT_MODEL_RANDOM=1 tries others each time. VFAGENT_MODEL_SHRINK=0 is for who only asks whether a test fails.
"""

import os

from hypothesis import HealthCheck, Phase, settings

FACTOR = float(os.environ.get("VFAGENT_MODEL_FACTOR", "1"))
NO_SHRINKING = {"VFAGENT_MODEL_SHRINK": "0"}
RANDOM = os.environ.get("VFAGENT_MODEL_RANDOM") == "1"

_SHRINKS = os.environ.get("VFAGENT_MODEL_SHRINK") != "0"
_PHASES = tuple(Phase) if _SHRINKS else (Phase.explicit, Phase.generate)

settings.register_profile("ci", deadline=None, derandomize=not RANDOM, database=None, phases=_PHASES)
settings.load_profile("ci")


def examples(number: int) -> settings:
    return settings(max_examples=max(1, round(number * FACTOR)), suppress_health_check=list(HealthCheck))
