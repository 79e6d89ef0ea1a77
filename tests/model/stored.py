# SPDX-License-Identifier: Apache-2.0
"""The state that vfagent keeps on disk, in memory: there are thousands of histories."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.pci import PciAddress
from vfagent.store.state import Baseline, State


class MemoryState(State):
    def __init__(self) -> None:
        super().__init__()
        self.baselines: dict[PciAddress, Baseline] = {}
        self.driver_states: dict[PciAddress, DriverState] = {}

    def baseline(self, address: PciAddress) -> Baseline | None:
        return self.baselines.get(address)

    def keep_baseline(self, pf: Pf) -> None:
        kept = self.baseline(pf.address)
        if kept is None or not kept.is_of(pf):
            self.baselines[pf.address] = Baseline(pf)

    def changed(self, address: PciAddress) -> bool:
        return address in self.baselines

    def has_baseline_of_another(self, pf: Pf) -> bool:
        kept = self.baseline(pf.address)
        return kept is not None and not kept.is_of(pf)

    def forget_baseline(self, address: PciAddress) -> None:
        self.baselines.pop(address, None)

    def released(self) -> frozenset[str]:
        return frozenset()

    @contextmanager
    def to_itself(self, address: PciAddress, patience_s: float) -> Iterator[None]:
        yield

    def driver_state(self, address: PciAddress) -> DriverState:
        stored = self.driver_states.get(address, DriverState())
        return replace(stored, changed=self.changed(address))

    def keep_driver_state(self, address: PciAddress, driver_state: DriverState) -> None:
        self.driver_states[address] = driver_state
