# SPDX-License-Identifier: Apache-2.0
"""The service: events mark PFs dirty, reconciles make them converge; reload, readiness, watchdog, status."""

import asyncio
import contextlib
import logging
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from vfagent import __version__
from vfagent.errors import PolicyError, PolicyUnreadError, VfagentError
from vfagent.guests.lifecycle import Guests
from vfagent.kernel.protocols import Host
from vfagent.kernel.udev import QUEUE
from vfagent.metrics.endpoint import Endpoint
from vfagent.metrics.view import About
from vfagent.model.status import PolicyStatus, Status
from vfagent.policy.match import rules_for
from vfagent.policy.types import Policy
from vfagent.process.signals import signals
from vfagent.process.throttle import Throttle
from vfagent.process.workers import Workers, end
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.scheduler import Scheduler
from vfagent.reconcile.status import snapshot, summary
from vfagent.service.bridges import HostBridges
from vfagent.service.control_socket import PublishedStatus, Requests, control_server
from vfagent.service.kernel_events import KernelEvents
from vfagent.service.planning import PlanJson, Planning
from vfagent.service.policy_comparison import PolicyComparison
from vfagent.service.preload import Preload
from vfagent.service.releases import Releases
from vfagent.service.reloads import Reloads
from vfagent.service.status_cache import StatusCache
from vfagent.service.trial import Trial
from vfagent.service.unused_rules import UnusedRules
from vfagent.store import policy_in_worker
from vfagent.store.identity import read_identity
from vfagent.store.locks import hold
from vfagent.store.policy_trust import untrusted_files
from vfagent.store.state import State, write_text
from vfagent.store.unconfirmed import FirstPolicy
from vfagent.systemd.journal import Notifier
from vfagent.systemd.log import for_pf, for_policy
from vfagent.systemd.messages import Message

log = logging.getLogger(__name__)

START_LIMIT_S = 300.0  # then READY=1 is sent, and the status reports what is not finished
_STATUS_DELAY_S = 0.3  # a burst of steps is one write
_EXTENSION_S = 60.0
_OWNERS_S = 10.0
_LAST_STEP_S = 5.0  # for a running step to end when the service stops
_OWNERS = "owners of the policy"


class Agent:
    def __init__(
        self,
        host: Host,
        root: Path = Path("/"),
        preload: Preload | None = None,
        *,
        bus: str = "SYSTEM",
        plan: PlanJson | None = None,
    ) -> None:
        self.root, self._preload = root, preload
        self.state = State(root)
        self.notifier = Notifier()
        self.policy_status = PolicyStatus((), "", time.time())
        self._policy_unread = False  # a file could not be read: it may be valid, and readable later
        self.identity = read_identity(root)
        self.workers = Workers(self._private)
        first = preload.first if preload else policy_in_worker.read_in_worker(root)[0]
        self.trial = Trial(root, self.workers, first, self._leave_trial, self._write_status_soon)
        policy = self._first_policy(first)
        self.scheduler = Scheduler(host, self.state, self.identity, policy, self.workers, self._changed)
        self.guests = Guests(host, root, self.scheduler, self.workers, self._write_status_soon, bus=bus)
        self.bridges = HostBridges(host, self.workers, self._write_status_soon)
        self.kernel_events = KernelEvents(host, self.scheduler, self.guests, self.bridges)
        self.comparison = PolicyComparison(root, self.workers, self._compared)
        self.unused_rules = UnusedRules(self.identity)
        self.published = PublishedStatus()
        self.reloads = Reloads(self, self.trial, self.notifier)
        release = Releases(host, root, self.workers).request
        planning = Planning(partial(plan, root, host) if plan else None, self.workers).request
        requests = Requests(self.guests.request, self.reloads.requested, self.trial.confirm, planning, release)
        self.control = control_server(root, self.published, requests)
        self.is_ready = False
        self._stop = asyncio.Event()
        self._status_timer: asyncio.TimerHandle | None = None
        self._status_throttle = Throttle()
        self._status_cache = StatusCache()
        self._written: object = None  # what status.json says, but for its time
        self._write_error = ""  # the last one, which is logged once
        self._started = self._udev_busy_at = time.monotonic()
        self._ready_timer: asyncio.TimerHandle | None = None
        self._resync_timer: asyncio.TimerHandle | None = None
        self._watchdog_timer: asyncio.TimerHandle | None = None
        self._resync_s = 0.0  # the interval of the resync timer
        self._lock = -1
        self._listening: asyncio.Task[None] | None = None
        self._owners_due = False
        self._checking_owners: asyncio.Task[None] | None = None
        self.metrics = Endpoint(
            self.snapshot, self._about, self.scheduler.counters, self._counting, self.workers, self.guests.taps.by_guest
        )

    def _private(self) -> tuple[int, ...]:
        """The descriptors that a worker must not keep: one that hangs would keep the lock, and clients waiting."""
        lock = (self._lock,) if self._lock >= 0 else ()
        return (*lock, *self.metrics.descriptors, *self.control.descriptors)

    def _first_policy(self, first: FirstPolicy) -> Policy:
        """At start there is no active policy: with an invalid one nothing is managed until it is fixed."""
        with contextlib.suppress(PolicyError):
            self._judged(first.on_disk)
        if isinstance(policy := first.active, PolicyError):
            return Policy()
        problems, self.policy_status = self.policy_status.problems, self._status_of(policy)
        if first.lapsed:
            self._not_active(problems)
        return policy

    async def load(self) -> Policy:
        return self._judged(await policy_in_worker.load_in_worker(self.root, self.workers))

    def _judged(self, answer: Policy | PolicyError) -> Policy:
        self._policy_unread = isinstance(answer, PolicyUnreadError)
        if isinstance(answer, PolicyError):
            self._refused(answer)
            raise answer
        return answer

    def _status_of(self, policy: Policy) -> PolicyStatus:
        rules = tuple(rule.name for rule in rules_for(self.identity, policy))
        return PolicyStatus(policy.files, policy.digest, time.time(), rules=rules, on_disk_active=True)

    def _refused(self, error: PolicyError) -> None:
        for problem in error.problems:
            log.error("policy: %s", problem)
        text = "not loaded: %d problems; the active policy is unchanged"
        for_policy(log, Message.POLICY_REFUSED).error(text, len(error.problems))
        self._not_active(error.problems)

    def _not_active(self, problems: tuple[str, ...]) -> None:
        """The policy on disk, because of these, and because of a trial that has lapsed."""
        problems = (*(text for text in problems if text not in self.trial.remarks), *self.trial.remarks)
        same = False if self.trial.remarks else self.policy_status.on_disk_active
        self.policy_status = replace(self.policy_status, problems=problems, on_disk_active=same)

    def stay(self) -> None:
        self._not_active(())

    def _check_owners_soon(self) -> None:
        """Who else can write the files of the policy. A file on a server that does not answer delays nothing, and holds
        one worker and no more. Another reload does not end the check that runs."""
        self._owners_due = True
        if self._checking_owners is None or self._checking_owners.done():
            self._checking_owners = asyncio.create_task(self._check_owners())

    async def _check_owners(self) -> None:
        while self._owners_due:
            self._owners_due = False
            await self._log_untrusted(self.scheduler.policy)

    async def _log_untrusted(self, policy: Policy) -> None:
        try:
            find = partial(untrusted_files, policy, self.root)
            for file in await self.workers.call(find, deadline_s=_OWNERS_S, kind=_OWNERS):
                log.warning("policy: %s", file)
        except VfagentError as error:
            log.warning("policy: cannot check who else can write its files: %s", error)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises VfagentError if another agent is running."""
        self._take_lock()
        stop = self._stop.set
        with signals({signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: self.reloads.soon}):
            await self._serve()

    async def _serve(self) -> None:
        # The monitors first, then the enumeration, so that no event is missed.
        self.kernel_events.start()
        self.kernel_events.reconcile_all(now=True)
        if self._preload:
            self.scheduler.adopt(self._preload.workers)
            if self._preload.hanging:
                end(self._preload.hanging)
            self._preload = None  # a reload replaces its policy, which need not stay in memory
        self.bridges.set_policy(self.scheduler.policy)
        await self.trial.resume(self.policy_status.digest)
        for why in self.trial.remarks:
            log.warning("%s", why)
        await self.control.start()
        self.guests.consider_soon()
        self._resync()
        self.scheduler.standby.renew_soon()
        self._write_status_soon()  # early in a boot the first reconcile may be seconds away
        self._check_ready()
        await self._stop.wait()
        await self._shut_down()

    def _take_lock(self) -> None:
        self._lock = self._preload.lock if self._preload else hold(self.state.run)

    def _keep_alive(self) -> None:
        """For the watchdog. Each resync does it, so that it is a wakeup of its own only where resyncs are rarer."""
        if self._watchdog_timer:
            self._watchdog_timer.cancel()
        if self.notifier.watchdog_s > 0:
            self.notifier.watchdog()
            loop = asyncio.get_running_loop()
            self._watchdog_timer = loop.call_later(self.notifier.watchdog_s / 2, self._keep_alive)

    def _resync(self) -> None:
        """The periodic reconcile of everything, at the interval of the active policy."""
        self.kernel_events.reconcile_all()
        # A retry, where these have failed.
        self._listening = asyncio.create_task(self.control.start())
        self.metrics.configure(self.scheduler.policy.agent)
        self.guests.resync()
        if self._policy_unread:
            self.reloads.soon(asked=False)
        elif self.is_ready:  # before that, it was read just now
            self.comparison.begin(self.policy_status.digest)
        self._arm_resync()
        self._keep_alive()

    async def _compared(self, digest: str, on_disk: str | None) -> None:
        active, same = self.policy_status, None if on_disk is None else on_disk == digest
        if active.digest != digest or active.on_disk_active == same:
            return
        if same is False:
            log.warning("policy: the one on disk is not the active one: see vfagent plan; a reload makes it active")
        self.policy_status = replace(active, problems=() if same else active.problems, on_disk_active=same)
        self._write_status_soon()
        if same:
            await self.trial.restored()

    def _arm_resync(self) -> None:
        if self._resync_timer:
            self._resync_timer.cancel()
        self._resync_s = self.scheduler.policy.agent.resync_s
        loop = asyncio.get_running_loop()
        self._resync_timer = loop.call_later(self._resync_s, self._resync) if self._resync_s > 0 else None

    @property
    def policy(self) -> Policy:
        return self.scheduler.policy

    def reloaded(self) -> None:
        self._write_status()

    def activate(self, policy: Policy) -> None:
        self.policy_status = self._status_of(policy)
        self._take_back_released()
        self.scheduler.set_policy(policy)
        self._status_cache.all_changed()
        self.bridges.set_policy(policy)
        self.metrics.configure(policy.agent)
        self.kernel_events.reconcile_all()
        self.guests.reload()
        if policy.agent.resync_s != self._resync_s:
            self._arm_resync()
        names = ", ".join(self.policy_status.files)
        for_policy(log, Message.POLICY_ACTIVE).info("%s is active, from %s", self.policy_status.digest, names)
        self._check_owners_soon()

    def _leave_trial(self, before: Policy, why: str) -> None:
        log.warning("%s", why)
        problems = self.policy_status.problems
        self.activate(before)
        self._not_active(problems)
        self._write_status()

    def _take_back_released(self) -> None:
        for address in self.state.released():
            try:
                self.state.take_back(address)
            except OSError as error:
                for_pf(log, address).warning("cannot end its release: %s", error.strerror)

    def _about(self) -> About:
        return About(__version__, self.policy_status.digest, ready=self.is_ready)

    def _counting(self) -> dict[str, int]:
        """The ifindex of each PF that may count the traffic of its VFs, by address."""
        pfs = (state.pf for state in self.scheduler.pfs.values() if not state.stuck)
        return {pf.address: pf.netdev.ifindex for pf in pfs if pf and pf.netdev and pf.vfs}

    def _changed(self, state: PfState) -> None:
        self._status_cache.changed(state.address)
        self.scheduler.standby.renew_soon()
        self._write_status_soon()
        self._check_ready()
        if state.reconciling:
            self.guests.consider_soon()
        else:  # its VFs may be ready now
            self.guests.consider_soon(0.0)

    def _write_status_soon(self) -> None:
        loop = asyncio.get_running_loop()
        rest = self._status_throttle.rest_s() if self.scheduler.working else 0.0
        due = loop.time() + max(_STATUS_DELAY_S, rest)
        if self._status_timer is None or self._status_timer.when() > due:
            self._cancel_status_timer()
            self._status_timer = loop.call_at(due, self._write_status_throttled)

    def _write_status_throttled(self) -> None:
        with self._status_throttle.work():
            self._write_status()

    def _cancel_status_timer(self) -> None:
        if self._status_timer:
            self._status_timer.cancel()
            self._status_timer = None

    def snapshot(self) -> Status:
        states = self.scheduler.pfs.values()
        pfs, guests, bridges = self._status_cache.of(states), self.guests.status(), self.bridges.report.problems
        # Before it is ready, a rule may match a PF that has not been observed yet.
        unused = self.unused_rules.texts(self.scheduler.policy, states) if self.is_ready else ()
        policy = replace(self.policy_status, unused_rules=unused, trial_ends_at=self.trial.ends_at)
        idle = self.scheduler.idle and self.guests.considered and self.bridges.idle
        return snapshot(pfs, policy, __version__, ready=self.is_ready, guests=guests, bridges=bridges, idle=idle)

    def _write_status(self) -> None:
        self._cancel_status_timer()
        status = self.snapshot()
        if (content := replace(status, written_at=0.0)) == self._written:
            return
        text = self._status_cache.text(status)
        self.published.publish(text)
        try:
            write_text(self.state.run / "status.json", text, for_all=True)
            self._written, self._write_error = content, ""
        except OSError as error:
            if self._write_error != (text := error.strerror or str(error)):
                log.warning("cannot write status.json: %s", text)
            self._write_error = text
        self.notifier.status(summary(status))

    def _check_ready(self) -> None:
        """READY=1 when each PF found at start has converged, or the status reports why it cannot."""
        if self.is_ready:
            return
        now = time.monotonic()
        if self.scheduler.host.sysfs.exists(QUEUE):
            self._udev_busy_at = now
        waited = now - self._started
        unfinished = any(state.unfinished(now, self._udev_busy_at) for state in self.scheduler.pfs.values())
        if unfinished and waited < START_LIMIT_S:
            if self._ready_timer is None:
                self.notifier.extend_start(_EXTENSION_S)
                self._ready_timer = asyncio.get_running_loop().call_later(1.0, self._check_ready_again)
            return
        self.is_ready = True
        self.scheduler.counters.ready_after(waited)
        self._write_status()
        self.notifier.ready()
        log.info("ready after %.1f s", waited)
        self._check_owners_soon()

    def _reconcile_unsettled(self) -> None:
        """With udev's queue empty, a PF that udev had not initialized is initialized now, or never will be.

        Once a second at most: a PF that udev does not know at all does not settle.
        """
        if self.scheduler.host.sysfs.exists(QUEUE):
            return
        for state in self.scheduler.pfs.values():
            if state.pf and not (state.pf.initialized or state.request.dirty or state.reconciling):
                self.scheduler.mark_dirty(state.address, now=True)

    def _check_ready_again(self) -> None:
        self._ready_timer = None
        self._reconcile_unsettled()
        self._check_ready()

    async def _shut_down(self) -> None:
        """VFs and guests stay as they are. A running step gets five seconds to finish."""
        self.notifier.stopping()
        await self.reloads.stop()
        if self._resync_timer:
            self._resync_timer.cancel()
        self.trial.stop()
        await self.comparison.stop()
        if self._checking_owners:
            self._checking_owners.cancel()
            await asyncio.wait({self._checking_owners})
        await self.kernel_events.stop()
        self.control.stop()
        await self.guests.stop()
        await self.bridges.stop()
        await asyncio.gather(self.metrics.stop(), self.scheduler.stop(_LAST_STEP_S))
        log.info("stopped; VFs stay as they are")
