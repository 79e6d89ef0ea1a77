# SPDX-License-Identifier: Apache-2.0
"""The active policy, and the last reload."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from vfagent.metrics.families import Samples, gauge
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


def collect(view: View) -> Iterator[Metric]:
    samples, policy = Samples(FAMILIES), view.status.policy
    active = policy.digest != ""
    samples.add(INFO, 1 if active else None, policy.digest)
    samples.add(FILES, len(policy.files))
    samples.add(SUCCESSFUL, not policy.problems)
    samples.add(LOADED, policy.loaded_at if active else None)
    samples.add(ON_DISK, policy.on_disk_active)
    applied = [pf.rule for pf in view.status.pfs]
    for rule in policy.rules:
        samples.add(RULE_PFS, applied.count(rule) if view.status.ready else None, rule)
    return samples.metrics()
