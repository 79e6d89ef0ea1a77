# SPDX-License-Identifier: Apache-2.0
"""Releases that are asked for: which PF is meant, and the release in a worker of the service."""

import contextlib
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from vfagent.errors import PolicyError, VfagentError, errno_text
from vfagent.kernel.protocols import Host
from vfagent.model.pci import PciAddress, pci_address
from vfagent.policy.match import desired_pf, names_of
from vfagent.process.workers import Workers
from vfagent.reconcile.observe import observe_pf, pf_addresses
from vfagent.reconcile.release import release as release_now
from vfagent.reconcile.reports import Emit
from vfagent.store.identity import read_identity
from vfagent.store.policy_files import load
from vfagent.store.state import State
from vfagent.systemd.log import for_pf

log = logging.getLogger(__name__)

RELEASE_S = 200.0
_LOCK_WAIT_S, _FIND_S = 90.0, 30.0


class Releases:
    def __init__(self, host: Host, root: Path, workers: Workers) -> None:
        self._host, self._root, self._workers, self._state = host, root, workers, State(root)

    async def request(self, name: str, force: bool) -> str:  # noqa: FBT001
        """The address of the PF, which is released then. Raises VfagentError."""
        address, idle = await self._workers.call(partial(_found, self._host, self._root, name), deadline_s=_FIND_S)
        if address in self._state.released():
            return address
        try:
            self._state.release(address)  # first, so that it is not reconciled again
        except OSError as error:
            raise VfagentError(f"{address}: cannot release it: {errno_text(error.errno or 0)}") from error
        host = replace(self._host, assume_idle=idle)
        body = partial(release_alone, address, host, self._state, lambda _: None, force=force)
        try:
            await self._workers.call(body, deadline_s=RELEASE_S)
        except VfagentError:
            self._state.take_back(address)
            raise
        for_pf(log, address).info("released, as it was asked for: a reload manages it again")
        return address


def _found(host: Host, root: Path, name: str) -> tuple[PciAddress, bool]:
    address = find_pf(host, name)
    return address, assumes_idle(host, address, root)


def release_alone(address: PciAddress, host: Host, state: State, emit: Emit, *, force: bool) -> None:
    """While the PF is not reconciled. Raises VfagentError."""
    with state.to_itself(address, _LOCK_WAIT_S):
        release_now(address, host, state, emit, force=force)


def find_pf(host: Host, name: str) -> PciAddress:
    addresses = pf_addresses(host)
    for address in addresses:
        pf = observe_pf(host, address)
        if pf and any(name in names_of(netdev) for netdev in pf.netdevs):
            return address
    with contextlib.suppress(ValueError):
        if (address := pci_address(name)) in addresses:
            return address
    raise VfagentError(f"{name}: there is no such PF", hint="vfagent list shows those that are there")


def assumes_idle(host: Host, address: PciAddress, root: Path) -> bool:
    """As the PF's rule says. Without a readable policy nothing is assumed."""
    try:
        policy = load(root)
    except PolicyError:
        return False
    pf = observe_pf(host, address)
    desired = desired_pf(policy, pf, read_identity(root)) if pf else None
    return desired is not None and desired.assume_idle
