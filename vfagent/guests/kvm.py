# SPDX-License-Identifier: Apache-2.0
"""Whether KVM works: tried once per boot of the host, when the first guest is to start."""

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

_AGAIN_S = (2.0, 10.0)  # between trials without a result; the one after these is the last
_VIRTUALIZATION = {"0085", "00C2"}  # X86_FEATURE_VMX and _SVM, by which kvm_intel and kvm_amd are found
_SOON_S = 0.5
_LOADED_S = 10.0  # udev loads KVM by the CPU's modalias, at a boot possibly seconds after the NIC's driver


class KvmTrial:
    """`on_answer` is called when `answer` may return another value."""

    def __init__(
        self, host: Host, records: GuestRecords, worker_calls: WorkerCalls, bus: str, on_answer: Callable[[], None]
    ) -> None:
        self._host, self._records, self._worker_calls = host, records, worker_calls
        self._bus, self._on_answer = bus, on_answer
        self._works = records.kvm()
        self._trying = False
        self._failures = 0
        self._first_asked_at: float | None = None
        self._logged_error: str | None = None

    def answer(self) -> bool | None:
        """None while it is being tried, or its module may still be loaded."""
        if self._works is None and not self._host.sysfs.exists("sys/class/misc/kvm"):
            if self._may_be_loaded():
                asyncio.get_running_loop().call_later(_SOON_S, self._on_answer)
                return None
            self._works = False
        if self._works is None and not self._trying:
            self._trying, bus = True, self._bus
            self._worker_calls.run(lambda: probe(bus), self._tried, PROBE_S)
        return self._works

    def _may_be_loaded(self) -> bool:
        features = (self._host.sysfs.read("sys/devices/system/cpu/modalias") or "").split(",")
        if not _VIRTUALIZATION & set(features):
            return False
        self._first_asked_at = self._first_asked_at or time.monotonic()
        return self._host.sysfs.exists(QUEUE) and time.monotonic() - self._first_asked_at < _LOADED_S

    def _tried(self, outcome: Outcome) -> None:
        if outcome.kvm is None and (not outcome.begun or self._failures < len(_AGAIN_S)):
            self._try_again(outcome)
            return
        self._works = bool(outcome.kvm)
        with contextlib.suppress(OSError):  # then the next agent tries it again
            self._records.keep_kvm(works=self._works)
        if outcome.kvm is None:
            log.error("KVM: cannot try it: %s; guests are emulated, which is slow, until the next boot", outcome.error)
        else:
            log.info("KVM %s", "works" if outcome.kvm else "does not run a guest: guests are emulated, which is slow")
        self._again()

    def _try_again(self, outcome: Outcome) -> None:
        if outcome.error != self._logged_error:
            log.warning("KVM: cannot try it yet: %s", outcome.error)
        self._logged_error, delay_s = outcome.error, _AGAIN_S[self._failures if outcome.begun else 0]
        self._failures += outcome.begun
        asyncio.get_running_loop().call_later(delay_s, self._again)

    def _again(self) -> None:
        self._trying = False
        self._on_answer()
