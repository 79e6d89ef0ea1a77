# SPDX-License-Identifier: Apache-2.0
"""Each test that docs/cards.md names fails once vfagent does not handle what its row says: quirk_mutations.toml.

One VM, in which each test gets cards of its own. It has to pass with vfagent as it is, and to fail with it changed.
"""

import inspect
import re
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

import pytest

from tests.lab import test_card, test_card_drivers, test_card_promises
from tests.lab.card_host import CARDS, PFS, change_back, change_in_use, policy, preparations, started
from tests.lab.facts import journal
from tests.lab.install import PACKAGES, vfagent_tree
from tests.lab.labcard import KNOBS, PfFacts, facts, labcard_tree, load
from tests.lab.payload import Entry
from tests.lab.quirk_mutations import MUTATIONS, PACKAGE, Mutation
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM, CommandError
from tests.lab.warm import WarmVM

LEAST_S, FACTOR = 15.0, 2.0  # how long a test is waited for that passed in less before
# The cards, the interfaces, the IDs and the journal of the test before.
CLEAN = f"""
echo 1ab0 2000 >/sys/bus/pci/drivers/vfio-pci/remove_id
systemctl kill -s CONT vfagent
systemctl stop vfagent 'hold*'
systemctl reset-failed
for domain in $(ls {KNOBS} | grep : | cut -c 1-4 | sort -u); do echo $((0x$domain)) >{KNOBS}/remove; done
for name in br0 br1 tap0 noisy $(ls -d /sys/devices/virtual/net/*/ | xargs -n 1 basename | grep '^en'); do
    ip link delete $name
done
rm -rf /run/vfagent /var/lib/vfagent
journalctl --rotate --vacuum-time=1s
"""


class ImpatientVM(WarmVM):
    """What takes longer than `patience_s` is a TimeoutError."""

    patience_s = float("inf")

    def run(
        self, command: str, *, check: bool = True, timeout: float = 60, data: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        try:
            return super().run(command, check=check, timeout=min(timeout, self.patience_s), data=data)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{command} takes more than {error.timeout} s") from error

    def wait_for(self, condition: str | Callable[[], object], timeout: float = 60) -> None:
        try:
            super().wait_for(condition, min(timeout, self.patience_s))
        except CommandError as error:
            raise TimeoutError(f"{condition} does not hold: {error}") from error


@dataclass(frozen=True, slots=True)
class Host:
    """A file of tests. `pfs`: the PF of each card, by the card's name; `cards`: how each is made, by its PF.

    `prepare`: a shell program for a host that has these cards and no service.
    """

    tests: ModuleType
    policy: Callable[[Collection[str]], str]
    pfs: Mapping[str, str]
    cards: Mapping[str, str]
    prepare: Callable[[Collection[str]], str]
    started: Callable[[VM, Collection[str]], dict[str, PfFacts]]


def _by_kind(cards: Mapping[str, str]) -> dict[str, str]:
    return {card.partition(",")[0]: pf for pf, card in cards.items()}


def _surprises(names: Collection[str]) -> str:
    pfs = {_by_kind(test_card_drivers.CARDS)[name] for name in names} & test_card_drivers.SURPRISES.keys()
    knobs = ((pf, *test_card_drivers.SURPRISES[pf]) for pf in sorted(pfs))
    return "\n".join(f"echo {value} >{KNOBS}/{pf}/{knob}" for pf, knob, value in knobs)


HOSTS = {
    "test_card_promises.py": Host(
        test_card_promises, lambda names: policy(names=names), PFS, CARDS, preparations, started
    ),
    "test_card_drivers.py": Host(
        test_card_drivers,
        lambda _: test_card_drivers.POLICY,
        _by_kind(test_card_drivers.CARDS),
        test_card_drivers.CARDS,
        _surprises,
        lambda vm, _: test_card_drivers.started(vm),
    ),
    "test_card.py": Host(
        test_card,
        lambda _: test_card.POLICY,
        _by_kind(test_card.CARDS),
        test_card.CARDS,
        lambda _: "",
        lambda vm, _: facts(vm),
    ),
}


@pytest.fixture(scope="module")
def vm(lab_image: object) -> Iterator[ImpatientVM]:
    extra = labcard_tree() | {"/usr/local/bin/hold-vf": Entry(VF_USER, 0o755)}
    with ImpatientVM([], vfagent_tree("", extra, enabled=False)) as machine:
        load(machine)
        yield machine


@pytest.fixture(scope="module")
def passed() -> dict[str, float]:
    """The tests that have passed with vfagent as it is, and how many seconds they took."""
    return {}


def _install(vm: VM, file: str, text: str) -> None:
    """Without the compiled file, which Python would take."""
    path = f"/{PACKAGES}/vfagent/{file}"
    vm.run(f"cat >{path}; rm -f $(dirname {path})/__pycache__/$(basename {path} .py).*", data=text.encode())


def _begin(vm: VM, mutation: Mutation) -> None:
    """In one command, as each takes a while where the host is emulated and busy."""
    host = HOSTS[mutation.file]
    pfs = [host.pfs[name] for name in mutation.cards]
    cards = "".join(f"echo {host.cards[pf]},domain={int(pf[:4], 16)} >{KNOBS}/add\n" for pf in pfs)
    vm.put("/etc/vfagent/policy.toml", host.policy(mutation.cards).encode())
    # A service that never gets ready is tested all the same.
    start = "timeout 40 systemctl start vfagent.service || true"
    vm.run(f"{CLEAN}{cards}udevadm settle\n{host.prepare(mutation.cards)}\n{start}", timeout=300)


def _run(vm: VM, mutation: Mutation) -> None:
    host = HOSTS[mutation.file]
    test = getattr(host.tests, mutation.test)
    parameters = inspect.signature(test).parameters
    marks = {name for mark in getattr(test, "pytestmark", ()) if mark.name == "usefixtures" for name in mark.args}
    fixtures = {*parameters, *marks}
    start = host.started(vm, mutation.cards)
    before = change_in_use(vm) if fixtures & {"changed", "back"} else start
    if "back" in fixtures:
        change_back(vm, before)
    case = getattr(host.tests, mutation.case, mutation.case)
    values = {"vm": vm, "start": start, "pfs": start, "changed": before, "name": case, "pf": case}
    test(**{name: values[name] for name in parameters})


def _failure(vm: VM, mutation: Mutation) -> str | None:
    try:
        _run(vm, mutation)
    except (AssertionError, TimeoutError) as error:
        return " ".join(str(error).split())[:300]
    return None


def _seconds_as_it_is(vm: VM, mutation: Mutation) -> float:
    _begin(vm, mutation)
    began = time.monotonic()
    failure = _failure(vm, mutation)
    print(f"{mutation.name} with vfagent as it is: {failure}")
    assert failure is None, "fails with vfagent as it is"
    return time.monotonic() - began


@pytest.mark.long
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_row_does_not_hold_without_what_handles_it(
    vm: ImpatientVM, passed: dict[str, float], mutation: Mutation
) -> None:
    alone = f"{mutation.test} {mutation.case} {mutation.cards}"
    passed[alone] = passed.get(alone) or _seconds_as_it_is(vm, mutation)
    try:
        for file, text in mutation.sources().items():
            _install(vm, file, text)
        _begin(vm, mutation)
        vm.patience_s = max(LEAST_S, FACTOR * passed[alone])
        failure = _failure(vm, mutation)
    finally:
        vm.patience_s = float("inf")
        lines = journal(vm)
        runs = vm.run("systemctl is-active vfagent.service", check=False).stdout.strip()
        for file in mutation.sources():
            _install(vm, file, (PACKAGE / file).read_text())
    print(f"{mutation.name} with vfagent changed: {failure}")
    assert failure is not None, "passes with vfagent changed"
    assert runs not in ("failed", "inactive"), "the changed vfagent does not run"
    assert not re.search(r"Traceback|worker exited", lines), "the changed vfagent breaks down"
