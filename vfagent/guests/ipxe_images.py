# SPDX-License-Identifier: Apache-2.0
"""What this host's iPXE images can do: read again now and then, as a package upgrade brings others."""

from collections.abc import Callable, Iterable
from pathlib import Path

from vfagent.guests.spec.boot import ASSUMED, IPXE_IMAGES, Images
from vfagent.guests.spec.ipxe_image import LONGEST_IMAGE, UPSTREAM, IpxeImage, image_of
from vfagent.guests.worker_calls import Outcome, WorkerCalls
from vfagent.kernel.rooted import read_regular
from vfagent.policy.types import GuestRule
from vfagent.store.host_files import facts_in

_READ_S = 10.0


def images_for(rules: Iterable[GuestRule], root: Path) -> Images:
    return {firmware: read_image(root, firmware) for firmware in _firmwares(rules)}


def _firmwares(rules: Iterable[GuestRule]) -> set[str]:
    """Those of guests that may boot an image."""
    return {rule.firmware for rule in rules if rule.ipxe and rule.ipxe.loader in ("auto", "image")}


def read_image(root: Path, firmware: str) -> IpxeImage | None:
    path = IPXE_IMAGES[firmware]
    try:
        content = read_regular(root, root / path.lstrip("/"), LONGEST_IMAGE)
    except FileNotFoundError:
        return UPSTREAM if facts_in(root)(path) else None
    except OSError:
        return UPSTREAM
    return image_of(content) or UPSTREAM


class IpxeImages:
    """`on_change` is called when `take` may return another value."""

    def __init__(self, root: Path, worker_calls: WorkerCalls, on_change: Callable[[float], None]) -> None:
        self._root, self._worker_calls, self._on_change = root, worker_calls, on_change
        self._images: Images = {}
        self._reading = self._stale = self._waited_for = False

    def take(self, rules: Iterable[GuestRule]) -> Images | None:
        """None until they have been read for the first time."""
        rules = tuple(rules)
        known = _firmwares(rules) <= self._images.keys()
        if not self._reading and (self._stale or not known) and _firmwares(rules):
            self._reading, self._stale, root = True, False, self._root
            self._worker_calls.run(lambda: Outcome(images=images_for(rules, root)), self._done, _READ_S)
        self._waited_for = self._waited_for or not known
        return self._images if known else None

    def refresh(self) -> None:
        self._stale = True

    def _done(self, outcome: Outcome) -> None:
        """Where they cannot be read, guests start as if they were upstream's."""
        self._reading, before, waited_for = False, self._images, self._waited_for
        self._waited_for = False
        self._images = {**before, **outcome.images} if outcome.images else {**ASSUMED, **before}
        if waited_for or self._images != before:
            self._on_change(0.0)
