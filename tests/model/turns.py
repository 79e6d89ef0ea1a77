# SPDX-License-Identifier: Apache-2.0
"""The token for writes of `sriov_numvfs`: it is with the PF whose write hangs, else free. Nobody sleeps here."""

import math

from tests.model.kernel import Kernel
from vfagent.model.numvfs_lock import NumvfsOwner
from vfagent.model.pci import PciAddress


class TurnView:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.taken = False

    def take(self, within_s: float) -> bool:
        self.taken = self._kernel.writer is None
        return self.taken

    def owner(self) -> NumvfsOwner | None:
        writer = self._kernel.writer
        return NumvfsOwner(PciAddress(writer), 0.0, -math.inf) if writer else None

    def write(self, owner: NumvfsOwner) -> None:
        pass

    def free(self) -> None:
        self.taken = False
