# SPDX-License-Identifier: Apache-2.0
"""Which PF is reconciled when, in virtual time: no event is lost, nobody waits for a PF that hangs, retries end."""

import asyncio
import errno
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.model.budget import examples
from tests.model.effects import Effect, Kind
from tests.model.hosts import Port, make_host
from tests.model.policies import policy_of
from tests.model.service import HOUR_S, Service, serve
from vfagent.model.pci import PciAddress
from vfagent.model.status import MOST_ATTEMPTS, Phase
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.policy.types import VfRule
from vfagent.reconcile.reports import Observed

FIRST, SIBLING, OTHER = PciAddress("0000:10:00.0"), PciAddress("0000:10:00.1"), PciAddress("0000:20:00.0")


@given(order=st.permutations((FIRST, SIBLING, OTHER)), hangs=st.sampled_from((FIRST, SIBLING, OTHER)))
@examples(20)
def test_nobody_waits_for_a_pf_that_hangs(order: list[PciAddress], hangs: PciAddress) -> None:
    """Neither the other PFs of its card nor other cards."""
    kernel = make_host((Port(), Port()), (Port(),))

    async def body(service: Service) -> None:
        service.workers.hangs.add(hangs)
        for address in order:
            service.scheduler.mark_dirty(address)
        await asyncio.sleep(HOUR_S)
        phases = {address: service.pf(address).phase for address in order}
        assert phases.pop(hangs) is Phase.STUCK
        assert set(phases.values()) == {Phase.CONVERGED}

    serve(kernel, policy_of(2, VfRule(vlan=10)), body)
    assert [len(kernel.pfs[address].vfs) for address in order if address != hangs] == [2, 2]


@given(number=st.integers(0, 12))
@examples(13)
def test_what_changes_while_a_pf_is_reconciled_is_seen(number: int) -> None:
    """Another program sets a VLAN after any report of a worker, which may have read it before."""
    kernel = make_host((Port(vfs=1),))
    pf, seen = kernel.pfs[FIRST], list[Any]()

    async def body(service: Service) -> None:
        def change(address: PciAddress, report: Any) -> None:
            seen.append(report)
            if len(seen) == number + 1:
                pf.vfs[0].settings = VfSettings(vlan=Vlan(77))
                service.scheduler.mark_dirty(address)

        service.workers.after_report = change
        service.scheduler.mark_dirty(FIRST)
        await asyncio.sleep(5.0)
        assert service.pf(FIRST).phase is Phase.CONVERGED
        assert pf.vfs[0].settings.vlan == Vlan(10), f"not after report {number} of {len(seen)}"

    serve(kernel, policy_of(1, VfRule(vlan=10)), body)


def test_the_rest_after_an_adopted_reconcile_is_as_after_another() -> None:
    """Three times as long as it took, which is less than the longest, for what was asked for meanwhile."""
    kernel, observed = make_host((Port(),)), list[float]()

    async def body(service: Service) -> None:
        def note(_: PciAddress, report: Any) -> None:
            if isinstance(report, Observed):
                observed.append(asyncio.get_running_loop().time())

        service.scheduler.mark_dirty(FIRST)
        await asyncio.sleep(60.0)
        service.workers.after_report = note
        service.adopt(FIRST)
        await asyncio.sleep(60.0)

    serve(kernel, policy_of(2), body)
    adopted, followed = observed
    assert followed - adopted < 1.0


@given(attempts=st.integers(0, 12))
@examples(13)
def test_retries_back_off_and_end(attempts: int) -> None:
    """The kernel refuses the VFs so many times."""
    kernel, tried = make_host((Port(),)), list[float]()

    def refuse(_: int, effect: Effect) -> int:
        if effect.kind is not Kind.NUMVFS:
            return 0
        tried.append(asyncio.get_running_loop().time())
        return errno.EAGAIN if len(tried) <= attempts else 0

    async def body(service: Service) -> None:
        service.scheduler.mark_dirty(FIRST)
        await asyncio.sleep(HOUR_S)
        suspended = attempts >= MOST_ATTEMPTS
        assert service.pf(FIRST).phase is (Phase.FAILED if suspended else Phase.CONVERGED)
        assert len(tried) == min(attempts + 1, MOST_ATTEMPTS)
        pauses = [later - earlier for earlier, later in pairwise(tried)]
        assert all(pause >= min(2.0**number, 60.0) for number, pause in enumerate(pauses))

    serve(kernel, policy_of(2), body, fault=refuse)


def test_a_pf_that_is_converged_is_left_alone_without_an_event() -> None:
    kernel = make_host((Port(),))

    async def body(service: Service) -> None:
        observed = list[Any]()
        service.workers.after_report = lambda _, report: observed.append(isinstance(report, Observed))
        service.scheduler.mark_dirty(FIRST)
        await asyncio.sleep(60.0)
        before = sum(observed)
        await asyncio.sleep(24 * HOUR_S)
        assert sum(observed) == before

    serve(kernel, policy_of(2), body)
