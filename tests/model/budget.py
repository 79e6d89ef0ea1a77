# SPDX-License-Identifier: Apache-2.0
"""How many examples each test runs, and whether they are the same each time.

VFAGENT_MODEL_FACTOR multiplies the number that each test names: 0.5 in `make check`, 7 in `make test`.
VFAGENT_MODEL_RANDOM=1 generates other examples each time. VFAGENT_MODEL_SHRINK=0 does not shrink failing examples.
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
