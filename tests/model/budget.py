# SPDX-License-Identifier: Apache-2.0
"""How many examples, and whether the same ones each time.

VFAGENT_MODEL_FACTOR multiplies what each test names: a half in `make check`, many in `make test`.
VFAGENT_MODEL_RANDOM=1 tries others each time.
"""

import os

from hypothesis import HealthCheck, settings

FACTOR = float(os.environ.get("VFAGENT_MODEL_FACTOR", "1"))
RANDOM = os.environ.get("VFAGENT_MODEL_RANDOM") == "1"

settings.register_profile("ci", deadline=None, derandomize=not RANDOM, database=None)
settings.load_profile("ci")


def examples(number: int) -> settings:
    return settings(max_examples=max(1, round(number * FACTOR)), suppress_health_check=list(HealthCheck))
