# SPDX-License-Identifier: Apache-2.0
"""The looks that begin before the service has loaded all of itself.

A look needs two thirds of that: the policy, the planner, the adapters. While the kernel makes a card's VFs, which is
most of what a boot waits for, there is time for the rest.
"""

import contextlib
import importlib
from dataclasses import dataclass, field
from pathlib import Path

from vfagent.errors import PolicyError
from vfagent.kernel.protocols import Host
from vfagent.model.pci import PciAddress, card_of
from vfagent.policy.match import HostIdentity
from vfagent.policy.types import Policy
from vfagent.process import worker
from vfagent.reconcile.observe import pf_addresses, udev_is_done
from vfagent.reconcile.rounds import Task, converge
from vfagent.store.identity import read_identity
from vfagent.store.locks import hold
from vfagent.store.policy_files import load
from vfagent.store.state import State

# What the loop needs, in parts of some 10 ms: a PF that udev is done with meanwhile does not wait for all of them.
_THE_REST = ("ssl", "asyncio", "vfagent.reconcile.scheduler", "vfagent.guests.lifecycle", "vfagent.service.agent")
_FOR_GUESTS = ("jeepney.io.blocking",)


@dataclass(slots=True)
class Preload:
    """`policy` is None where it is not good; whoever loads it next says why. `begun`: the workers, one of a card."""

    host: Host
    state: State
    lock: int
    policy: Policy | None
    identity: HostIdentity
    begun: dict[PciAddress, worker.Worker] = field(default_factory=dict)

    def load_the_rest(self) -> None:
        waiting = list(pf_addresses(self.host))
        for module in (*_THE_REST, *(_FOR_GUESTS if self.policy and self.policy.guest else ())):
            waiting = [address for address in waiting if not self._begin(address)]
            importlib.import_module(module)

    def _begin(self, address: PciAddress) -> bool:
        """Whether there is a look at it now. What is not ready, or not for us to touch, is left to the loop."""
        others = {card_of(one) for one in self.begun}
        if not self.policy or not self.policy.pf or card_of(address) in others or not udev_is_done(self.host, address):
            return False
        if address in self.state.released():
            return False
        task = Task(address, self.policy, self.identity, self.state.driver_state(address))
        with contextlib.suppress(OSError):  # no process is to be had now
            self.begun[address] = worker.start(
                lambda send: converge(task, self.host, self.state, send), close=(self.lock,)
            )
        return address in self.begun


def start_preload(host: Host, root: Path) -> Preload:
    """Before any look. Raises VfagentError where another agent is running."""
    state = State(root)
    lock = hold(state.run)
    try:
        policy = load(root)
    except PolicyError:
        policy = None
    return Preload(host, state, lock, policy, read_identity(root))
