# SPDX-License-Identifier: Apache-2.0
"""The policy in force, and the last attempt at another."""

from vfagent.metrics.client import Metric
from vfagent.metrics.families import Sheet, gauge
from vfagent.metrics.view import View

INFO = gauge("policy_info", "The policy in force, by the digest of its files.", "digest")
FILES = gauge("policy_files", "How many files the policy in force was read from.")
SUCCESSFUL = gauge(
    "policy_last_reload_successful", "Whether the policy on disk was valid when it was last read: 1, or 0."
)
LOADED = gauge(
    "policy_last_reload_success_timestamp_seconds", "When the policy in force was read, in seconds since 1970."
)

FAMILIES = (INFO, FILES, SUCCESSFUL, LOADED)


def collect(view: View) -> list[Metric]:
    sheet, policy = Sheet(FAMILIES), view.status.policy
    in_force = policy.digest != ""
    sheet.put(INFO, 1 if in_force else None, {"digest": policy.digest})
    sheet.put(FILES, len(policy.files))
    sheet.put(SUCCESSFUL, not policy.problems)
    sheet.put(LOADED, policy.loaded_at if in_force else None)
    return sheet.metrics()
