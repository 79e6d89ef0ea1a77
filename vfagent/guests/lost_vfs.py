# SPDX-License-Identifier: Apache-2.0
"""Notices guests that keep one of their VFs from being removed."""

import asyncio
import os
from collections.abc import Callable, Mapping

from vfagent.guests.state import GuestState, lost_vf
from vfagent.kernel.protocols import Host
from vfagent.model.numvfs_lock import kernel_version

_CHECK_S = 15.0


class LostVfs:
    """`on_lost` is called where a guest that runs has lost a VF.

    A VF whose removal waits for its guest has lost its driver. Kernels before 6.6 send no event for that.
    """

    def __init__(self, host: Host, guests: Mapping[str, GuestState], on_lost: Callable[[float], None]) -> None:
        self._host, self._guests, self._on_lost = host, guests, on_lost
        kernel = os.uname()
        self.every_s = _CHECK_S if kernel_version(kernel.release, kernel.version) < (6, 6) else 0.0
        self._timer: asyncio.TimerHandle | None = None

    def check_later(self) -> None:
        if self.every_s and self._timer is None and any(guest.running for guest in self._guests.values()):
            self._timer = asyncio.get_running_loop().call_later(self.every_s, self._check_again)

    def _check_again(self) -> None:
        self._timer = None
        self.check()
        self.check_later()

    def check(self) -> None:
        if any(guest.running and lost_vf(guest.unit, self._host) for guest in self._guests.values()):
            self._on_lost(0.0)

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()
