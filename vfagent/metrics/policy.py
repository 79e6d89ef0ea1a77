# SPDX-License-Identifier: Apache-2.0
"""The active policy, and the last reload."""

from vfagent.metrics.client import Metric
from vfagent.metrics.families import Sheet, gauge
from vfagent.metrics.view import View

INFO = gauge("policy_info", "The active policy, by the digest of its files.", "digest")
FILES = gauge("policy_files", "Files of the active policy.")
SUCCESSFUL = gauge("policy_last_reload_successful", "Whether the last reload found a valid policy.")
LOADED = gauge(
    "policy_last_reload_success_timestamp_seconds", "When the active policy was loaded, in seconds since 1970."
)
ON_DISK = gauge(
    "policy_on_disk_active",
    "Whether the policy on disk is the active one, compared at each resync; absent if it could not be read in time.",
)
RULE_PFS = gauge("rule_pfs", "PFs that a rule for this host applies to; absent until the service is ready.", "rule")

FAMILIES = (INFO, FILES, SUCCESSFUL, LOADED, ON_DISK, RULE_PFS)


def collect(view: View) -> list[Metric]:
    sheet, policy = Sheet(FAMILIES), view.status.policy
    active = policy.digest != ""
    sheet.put(INFO, 1 if active else None, {"digest": policy.digest})
    sheet.put(FILES, len(policy.files))
    sheet.put(SUCCESSFUL, not policy.problems)
    sheet.put(LOADED, policy.loaded_at if active else None)
    sheet.put(ON_DISK, policy.on_disk_active)
    applied = [pf.rule for pf in view.status.pfs]
    for rule in policy.rules:
        sheet.put(RULE_PFS, applied.count(rule) if view.status.ready else None, {"rule": rule})
    return sheet.metrics()
