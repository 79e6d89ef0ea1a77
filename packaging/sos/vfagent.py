# SPDX-License-Identifier: Apache-2.0
"""A plugin for sos(1): copy it to sos' folder report/plugins."""

from sos.report.plugins import DebianPlugin, IndependentPlugin, Plugin


# sos 4.0, of Debian 12, has no IndependentPlugin on Debian: DebianPolicy.__init__ replaces valid_subclasses.
class Vfagent(Plugin, DebianPlugin, IndependentPlugin):
    """What `vfagent report` has, as sos collects it; sos cleans MACs, addresses and names by itself.

    The policy may have secrets in it, guests' seeds and credentials. The report has it without them.
    """

    short_desc = "SR-IOV NICs, their VFs and guests"
    plugin_name = "vfagent"
    profiles = ("network", "virt", "hardware")
    packages = ("vfagent",)
    services = ("vfagent",)

    def setup(self) -> None:
        self.add_copy_spec(
            [
                "/run/vfagent/status.json",
                "/run/vfagent/driver-state",
                "/var/lib/vfagent/baseline",
                "/var/lib/vfagent/moves",
            ]
        )
        verbs = ("list --json", "plan", "status", "doctor", "check")
        self.add_cmd_output([f"vfagent {verb}" for verb in verbs], timeout=60)
        archive = f"{self.get_cmd_output_path(make=False)}/report.tar.gz"
        self.add_cmd_output(f"vfagent report --anonymise --output {archive}", timeout=300)
        self.add_journal(units="vfagent")
