# SPDX-License-Identifier: Apache-2.0
"""`vfagent plan` for people: a summary, and each kind of step once for all VFs and cards that it is alike for."""

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vfagent.cli.text import counted, ranges
from vfagent.frozen import frozen
from vfagent.model.inventory import Pf
from vfagent.model.printable import printable
from vfagent.plan.steps import SetNumvfs, Step
from vfagent.reconcile.reports import Observed

_RED, _BOLD, _END = "\x1b[1;31m", "\x1b[1m", "\x1b[0m"
_PF = "\0"  # in place of a PF's address, which cards that are alike do not share
_MOST_NAMES = 8
_VFS = "\1"  # in place of a VF


@frozen(slots=True)
class Width:
    """`columns`: None where lines are not wrapped, as in a pipe."""

    columns: int | None
    colour: bool


@frozen(slots=True)
class _Line:
    """A kind of step, or a remark, without the PF and the VFs that it is about."""

    text: str
    reason: str = ""
    blocker: str = ""
    destroys: bool = False
    vfs: str = ""


def page(observations: Iterable[Observed], width: Width) -> list[str]:
    """Nothing without a PF that a rule applies to."""
    observed = [each for each in observations if each.pf and (each.desired or each.plan.steps)]
    if not observed:
        return []
    bodies = dict[tuple[_Line, ...], list[Observed]]()
    for each in observed:
        bodies.setdefault(tuple(_body(each)), []).append(each)
    lines = _wrapped(_summary(observed), width)
    for body, alike in bodies.items():
        lines += ["", *_card(body, alike, width)]
    destroys = any(line.destroys for body in bodies for line in body)
    hint = "! removes something; " if destroys else ""
    return [*lines, "", *_wrapped(f"{hint}vfagent plan --steps shows each step in its order", width)]


def _summary(observed: list[Observed]) -> str:
    changed = [each for each in observed if each.plan.steps]
    steps = [planned.step for each in changed for planned in each.plan.steps]
    made = sum(step.count for step in steps if isinstance(step, SetNumvfs))
    removes = {step.pf for step in steps if isinstance(step, SetNumvfs) and not step.count}
    removed = sum(len(each.pf.vfs) for each in changed if each.pf and each.pf.address in removes)
    waiting = sum(len(each.plan.deferred) for each in observed)
    cards = counted(len(observed), "card")
    some = f"{len(changed)} of {cards} {'changes' if len(changed) == 1 else 'change'}"
    parts = [some if changed else f"nothing to do {'now ' if waiting else ''}on {cards}"]
    parts += [f"{counted(removed, 'VF')} {'is' if removed == 1 else 'are'} removed"] if removed else []
    parts += [f"{counted(made, 'VF')} {'is' if made == 1 else 'are'} made"] if made else []
    parts += [f"{counted(waiting, 'change')} {'waits' if waiting == 1 else 'wait'} for a user"] if waiting else []
    return ", ".join(parts)


def _body(observed: Observed) -> Iterator[_Line]:
    plan, pf = observed.plan, observed.pf
    assert pf is not None
    yield _Line(f"rule {observed.desired.rule}" if observed.desired else "no rule")
    if plan.settled:
        yield _Line("nothing to do")
    yield from _folded(pf, ((planned.step, planned.reason, "") for planned in plan.steps))
    for title, texts in (("waits", plan.waiting), ("problem", map(str, plan.problems)), ("note", plan.notes)):
        yield from (_Line(f"{title}: {text.replace(pf.address, _PF)}") for text in texts)
    yield from _folded(pf, ((item.step, item.reason, item.blocker) for item in plan.deferred))
    if plan.horizon:
        yield _Line("more steps are planned once these are done")


def _folded(pf: Pf, steps: Iterable[tuple[Step, str, str]]) -> Iterator[_Line]:
    """A line for all VFs of which a step, its reason and its blocker say the same."""
    kinds = dict[_Line, list[int]]()
    for step, reason, blocker in steps:
        index, text = getattr(step, "index", None), step.describe()
        if isinstance(index, int):
            text = re.sub(rf"{re.escape(pf.address)}/vf{index}(?: \([0-9a-f:.]+\))?", _VFS, text, count=1)
        text = f"deferred: {text}" if blocker else text
        shown = [part.replace(pf.address, _PF) for part in (text, reason, blocker)]
        kind = _Line(shown[0], shown[1], shown[2], destroys=step.destroys and not blocker)
        kinds.setdefault(kind, []).extend([index] if isinstance(index, int) else [])
    for kind, indices in kinds.items():
        yield replace(kind, vfs=_ranges(indices))


def _ranges(indices: list[int]) -> str:
    """`VF 3`, `VFs 0-2, 5`."""
    return f"{'VF' if len(indices) == 1 else 'VFs'} {ranges(indices)}" if indices else ""


def _card(body: tuple[_Line, ...], alike: list[Observed], width: Width) -> Iterator[str]:
    rule, *lines = body
    name = alike[0].pf.address if len(alike) == 1 and alike[0].pf else "each"
    shown = [each.pf.name for each in alike if each.pf][: _MOST_NAMES if len(alike) > _MOST_NAMES + 1 else None]
    names = ", ".join(shown) + (f" and {len(alike) - len(shown)} more" if len(shown) < len(alike) else "")
    head = _wrapped(printable(f"{names}: {rule.text}"), width)
    yield from (f"{_BOLD}{line}{_END}" if width.colour else line for line in head)
    for line in lines:
        because = (f" ({line.reason})" if line.reason else "") + (f": {line.blocker}" if line.blocker else "")
        text = line.text.replace(_VFS, line.vfs) + because
        mark = "! " if line.destroys else "  "
        wrapped = _wrapped(printable(text.replace(_PF, name)), width, mark, "    ")
        yield from (f"{_RED}{part}{_END}" if line.destroys and width.colour else part for part in wrapped)


def _wrapped(text: str, width: Width, first: str = "", rest: str = "  ") -> list[str]:
    if width.columns is None:
        return [f"{first}{text}"]
    return textwrap.wrap(
        text, max(width.columns, 20), initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )
