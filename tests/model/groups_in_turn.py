# SPDX-License-Identifier: Apache-2.0
"""Parallel groups without threads: these interleave differently each time, so that no failure could be replayed."""

from vfagent.reconcile.parallel import _GroupRun


class GroupInTurn(_GroupRun):
    early = True
    """Whether the other groups of a batch run before its first group, or after it."""

    def start(self) -> None:
        if self.early:
            self.run()

    def join(self, timeout: float | None = None) -> None:
        if not self.early:
            self.run()
