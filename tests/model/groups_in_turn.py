# SPDX-License-Identifier: Apache-2.0
"""A stage's lanes without threads: real ones interleave differently each time, so no failure could be replayed."""

from vfagent.reconcile.parallel import _GroupRun


class GroupInTurn(_GroupRun):
    early = True
    """Whether a lane beside the first runs whole before it, or after it."""

    def start(self) -> None:
        if self.early:
            self.run()

    def join(self, timeout: float | None = None) -> None:
        if not self.early:
            self.run()
