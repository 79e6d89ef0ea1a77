# SPDX-License-Identifier: Apache-2.0
"""A plugin for sos(1): copy it to sos' folder report/plugins."""

from sos.report.plugins import IndependentPlugin, Plugin


class Vfagent(Plugin, IndependentPlugin):
    """What `vfagent report` has, as sos collects it; sos cleans MACs, addresses and names by itself."""

    short_desc = "SR-IOV NICs, their VFs and guests"
    plugin_name = "vfagent"
    profiles = ("network", "virt", "hardware")
    packages = ("vfagent",)
    services = ("vfagent",)

    def setup(self) -> None:
        self.add_copy_spec(
            [
                "/etc/vfagent/policy.toml",
                "/etc/vfagent/policy.d",
                "/run/vfagent/status.json",
                "/run/vfagent/driver-state",
                "/var/lib/vfagent/baseline",
                "/var/lib/vfagent/moves",
            ]
        )
        verbs = ("list --json", "plan", "status", "doctor", "check")
        self.add_cmd_output([f"vfagent {verb}" for verb in verbs], timeout=60)
        self.add_journal(units="vfagent")
