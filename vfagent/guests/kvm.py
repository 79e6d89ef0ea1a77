# SPDX-License-Identifier: Apache-2.0
"""Whether KVM works: tried once a boot of the host, when the first guest is to start."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from vfagent.guests.spec.kvm_probe import PROBE_S
from vfagent.guests.worker_calls import Outcome, WorkerCalls, probe
from vfagent.kernel.protocols import Host
from vfagent.kernel.udev import QUEUE
from vfagent.store.guest_records import GuestRecords

log = logging.getLogger(__name__)

_AGAIN_S = (2.0, 10.0)  # between trials that gave no answer; the one after these is the last
_VIRTUALIZATION = {"0085", "00C2"}  # X86_FEATURE_VMX and _SVM, by which kvm_intel and kvm_amd are found
_SOON_S = 0.5
_LOADED_S = 10.0  # udev loads KVM by the processor's modalias, which at a boot may be seconds after the card's driver


class KvmTrial:
    """`on_answer` is called when it is known, or may be asked for again."""

    def __init__(
        self, host: Host, records: GuestRecords, worker_calls: WorkerCalls, bus: str, on_answer: Callable[[], None]
    ) -> None:
        self._host, self._records, self._worker_calls, self._bus, self._on_answer = (
            host,
            records,
            worker_calls,
            bus,
            on_answer,
        )
        self._works = records.kvm()
        self._trying = False
        self._failures = 0
        self._asked_at: float | None = None
        self._told: str | None = None

    def answer(self) -> bool | None:
        """None while it is being tried, or may yet be loaded."""
        if self._works is None and not self._host.sysfs.exists("sys/class/misc/kvm"):
            if self._may_come():
                asyncio.get_running_loop().call_later(_SOON_S, self._on_answer)
                return None
            self._works = False
        if self._works is None and not self._trying:
            self._trying, bus = True, self._bus
            self._worker_calls.run(lambda: probe(bus), self._tried, PROBE_S)
        return self._works

    def _may_come(self) -> bool:
        features = (self._host.sysfs.read("sys/devices/system/cpu/modalias") or "").split(",")
        if not _VIRTUALIZATION & set(features):
            return False
        self._asked_at = self._asked_at or time.monotonic()
        return self._host.sysfs.exists(QUEUE) and time.monotonic() - self._asked_at < _LOADED_S

    def _tried(self, found: Outcome) -> None:
        if found.kvm is None and (not found.begun or self._failures < len(_AGAIN_S)):
            self._try_again(found)
            return
        self._works = bool(found.kvm)
        with contextlib.suppress(OSError):  # then the next agent tries it again
            self._records.keep_kvm(works=self._works)
        if found.kvm is None:
            log.error("KVM cannot be tried: %s; guests are emulated, which is slow, until the host boots", found.error)
        else:
            log.info("KVM %s", "works" if found.kvm else "does not run a guest: guests are emulated, which is slow")
        self._again()

    def _try_again(self, found: Outcome) -> None:
        if found.error != self._told:
            log.warning("cannot try whether KVM works yet: %s", found.error)
        self._told, delay_s = found.error, _AGAIN_S[self._failures if found.begun else 0]
        self._failures += found.begun
        asyncio.get_running_loop().call_later(delay_s, self._again)

    def _again(self) -> None:
        self._trying = False
        self._on_answer()
