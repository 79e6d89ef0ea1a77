# SPDX-License-Identifier: Apache-2.0
"""How many examples: the same few each time, or many others: `VFAGENT_MODEL_FACTOR=50 pytest tests/model`."""

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("VFAGENT_MODEL_FACTOR", "1"))

settings.register_profile("ci", deadline=None, derandomize=FACTOR == 1, database=None)
settings.load_profile("ci")


def examples(number: int) -> settings:
    return settings(max_examples=number * FACTOR, suppress_health_check=list(HealthCheck))
