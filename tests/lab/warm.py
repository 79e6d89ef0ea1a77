# SPDX-License-Identifier: Apache-2.0
"""VMs that start from the saved state of a booted host: in seconds instead of half a minute."""

import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.lab.cache import built
from tests.lab.qemu import IMAGE, WARM, Place
from tests.lab.qemu import VM as VM_FOLDER
from tests.lab.qmp import Qmp
from tests.lab.vm import VM

# Imported once, so that they are in the saved page cache.
PRELOAD = "import asyncio, jeepney, prometheus_client, pyroute2, pyudev, systemd.daemon, tomli"
STATE_LIMIT_S = 120


class WarmVM(VM):
    """Like VM, but payload and cards are added after the boot, in this order, and no unit of the payload is started."""

    def start(self) -> None:
        """Starts from the saved state of a VM without cards and payload."""
        bare = replace(self._machine, cards={}, payload=False)
        recipe = {"image": self.image.directory.name, "machine": asdict(bare), "preload": PRELOAD}
        self._resume(built(f"warm-{self.suite}", recipe, self._boot_once))

    def _resume(self, state: Path) -> None:
        bare = replace(self._machine, cards={}, payload=False)
        binds = {self.image.directory: IMAGE, state: WARM}
        place = Place(self.image.tools, self.folder, binds)
        place.make_overlay(f"{WARM}/root.qcow2", "qcow2")
        self._launch(place, [*bare.arguments(), "-incoming", "defer"])
        self.qmp.execute("migrate-incoming", {"uri": f"file:{WARM}/state"})
        _await_status(self.qmp, "query-status", "paused")
        self.qmp.execute("cont")
        # ssh was up when the state was saved.
        self._boot_begin = -1

    def _announced(self) -> bool:
        return self._boot_begin < 0 or super()._announced()

    def _arrange(self) -> None:
        """Copies the payload into the root, and plugs the cards in."""
        self.run(f"date --set @{time.time()}")
        if self.payload:
            self.put_tree(self.payload)
            self.run(
                "systemd-sysusers; udevadm control --reload; systemctl daemon-reload;"
                " systemctl restart systemd-modules-load"
            )
        cards, self.cards = self.cards, {}
        for card in cards.values():
            self.hotplug(card)

    def _boot_once(self, work: Path) -> None:
        bare = self._machine
        options: dict[str, Any] = {"memory_mib": bare.memory_mib, "extra_qemu": bare.extra, "extra_kernel": bare.kernel}
        vm = VM(suite=self.suite, **options)
        with vm:
            vm.wait_boot()
            vm.run(f"udevadm settle; python3 -c '{PRELOAD}'; sync")
            vm.remote.close()
            vm.qmp.execute("stop")
            vm.qmp.execute("migrate", {"uri": f"file:{VM_FOLDER}/state"})
            _await_status(vm.qmp, "query-migrate", "completed")
            for name in ("state", "root.qcow2"):
                shutil.copy(vm.folder / name, work)
        # A state that was saved on a busy machine never answered again, and would be kept in the cache.
        with _Trial(
            work, suite=self.suite, memory_mib=bare.memory_mib, extra_qemu=bare.extra, extra_kernel=bare.kernel
        ):
            pass


class _Trial(WarmVM):
    """Starts from this state, until it runs commands."""

    def __init__(self, state: Path, **options: Any) -> None:
        super().__init__([], **options)
        self._state = state

    def start(self) -> None:
        self._resume(self._state)


def _await_status(qmp: Qmp, query: str, wanted: str) -> None:
    deadline = time.monotonic() + STATE_LIMIT_S
    while (answer := qmp.execute(query)).get("status") != wanted:
        if answer.get("status") == "failed" or time.monotonic() > deadline:
            raise RuntimeError(f"{query}: {answer}")
        time.sleep(0.05)
