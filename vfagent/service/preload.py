# SPDX-License-Identifier: Apache-2.0
"""Reconciles that start before the service has loaded all of its modules.

A reconcile needs two thirds of them: the policy, the planner, the adapters. While the kernel creates a card's VFs,
which is most of what a boot waits for, the service loads the rest.
"""

import contextlib
import importlib
from dataclasses import dataclass, field
from pathlib import Path

from vfagent.errors import PolicyError
from vfagent.kernel.protocols import Host
from vfagent.model.pci import PciAddress
from vfagent.policy.match import HostIdentity
from vfagent.policy.types import Policy
from vfagent.process import worker
from vfagent.reconcile.observe import observe_card, pf_addresses, udev_is_done
from vfagent.reconcile.rounds import Task, converge
from vfagent.store.identity import read_identity
from vfagent.store.locks import hold
from vfagent.store.policy_in_worker import read_in_worker
from vfagent.store.state import State
from vfagent.store.unconfirmed import FirstPolicy

# What the event loop needs, in parts of some 10 ms: between two parts, each PF that udev has initialized is started.
EVENT_LOOP_MODULES = (
    "ssl",
    "asyncio",
    "vfagent.reconcile.scheduler",
    "vfagent.guests.worker_calls",
    "vfagent.guests.lifecycle",
    "vfagent.service.agent",
)
GUEST_MODULES = ("jeepney.io.blocking",)


@dataclass(slots=True)
class Preload:
    """`hanging`: see read_in_worker. `workers`: one for each card."""

    host: Host
    state: State
    lock: int
    first: FirstPolicy
    identity: HostIdentity
    hanging: worker.Worker | None = None
    workers: dict[PciAddress, worker.Worker] = field(default_factory=dict)

    @property
    def policy(self) -> Policy | PolicyError:
        """The active one, or an error, which the agent reports."""
        return self.first.active

    def load_the_rest(self) -> None:
        pending = list(pf_addresses(self.host))
        guests = isinstance(self.policy, Policy) and self.policy.guest
        for module in (*EVENT_LOOP_MODULES, *(GUEST_MODULES if guests else ())):
            pending = [address for address in pending if not self._start_worker(address)]
            importlib.import_module(module)

    def _start_worker(self, address: PciAddress) -> bool:
        """Whether a worker reconciles the PF now. The scheduler does those that are not ready, or are released."""
        if isinstance(self.policy, PolicyError) or not self.policy.pf or not udev_is_done(self.host, address):
            return False
        if observe_card(self.host, address) in {observe_card(self.host, pf) for pf in self.workers}:
            return False
        if address in self.state.released() or len(self.workers) >= worker.MOST:
            return False
        task = Task(address, self.policy, self.identity, self.state.driver_state(address))
        with contextlib.suppress(OSError):  # EAGAIN: no process can be forked now
            self.workers[address] = worker.start(
                lambda send: converge(task, self.host, self.state, send), close=(self.lock,)
            )
        return address in self.workers


def start_preload(host: Host, root: Path) -> Preload:
    """Call it before any reconcile. Raises VfagentError where another agent is running."""
    state = State(root)
    lock = hold(state.run)
    first, hanging = read_in_worker(root, close=(lock,))
    return Preload(host, state, lock, first, read_identity(root), hanging)
