# SPDX-License-Identifier: Apache-2.0
"""The agent's control socket: what it is asked over Varlink, and the functions that answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

from vfagent import __version__
from vfagent.errors import PolicyError, PolicyUnreadError, RefusedError, VfagentError
from vfagent.frozen import frozen
from vfagent.service.control_interface import AGENT, GUEST, INTERFACES, SOCKET
from vfagent.service.varlink import LIMITS, Limits, Method, Service, VarlinkError, VarlinkServer

_LONGEST_TRIAL_S = 99 * 3600
_INFO = {
    "vendor": "vfagent",
    "product": "vfagent",
    "version": __version__,
    "url": "https://varlink.org",
}

GuestRequest = Callable[[str, str], Awaitable[str | None]]
"""Gets "start" or "stop" and a guest's name, and returns what blocks it, or None."""

Reload = Callable[[int | None], Awaitable[str]]
"""Gets the seconds within which it must be confirmed, and returns the digest. Raises PolicyError, VarlinkError."""


class PublishedStatus:
    """The JSON of the last status, for those who monitor it."""

    def __init__(self) -> None:
        self._text = "null"
        self._changed = asyncio.Event()

    def publish(self, text: str) -> None:
        self._text = text
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def once(self) -> str:
        return f'{{"status":{self._text}}}'

    async def monitor(self) -> AsyncIterator[str]:
        """A client that reads slowly gets the last one, not each."""
        while True:
            changed = self._changed
            yield await self.once()
            await changed.wait()


@frozen(slots=True)
class Requests:
    """Who answers. `plan`: JSON. `release`: gets a PF's name and whether it is forced, and returns its address. Both
    raise VfagentError."""

    guest: GuestRequest
    reload: Reload
    confirm: Callable[[], Awaitable[str]]
    plan: Callable[[], Awaitable[str]]
    release: Callable[[str, bool], Awaitable[str]]


def control_server(root: Path, status: PublishedStatus, requests: Requests, limits: Limits = LIMITS) -> VarlinkServer:
    name, required = {"name": str}, frozenset({"name"})
    methods = {
        f"{AGENT}.Status": Method(status.once, for_all=True),
        f"{AGENT}.Monitor": Method(stream=status.monitor, for_all=True),
        f"{AGENT}.Reload": Method(partial(_reload, requests.reload), parameters={"confirm_s": int}),
        f"{AGENT}.Confirm": Method(partial(_confirm, requests.confirm)),
        f"{AGENT}.Plan": Method(partial(_plan, requests.plan), for_all=True),
        f"{AGENT}.Release": Method(
            partial(_release, requests.release), parameters={"pf": str, "force": bool}, required=frozenset({"pf"})
        ),
        f"{GUEST}.Start": Method(partial(_guest, requests.guest, "start"), parameters=name, required=required),
        f"{GUEST}.Stop": Method(partial(_guest, requests.guest, "stop"), parameters=name, required=required),
    }
    return VarlinkServer(root / SOCKET, Service(_INFO, INTERFACES, methods), limits)


async def _guest(request: GuestRequest, verb: str, name: str) -> str:
    if blocker := await request(verb, name):
        raise VarlinkError(f"{GUEST}.Refused", reason=blocker)
    return "{}"


async def _reload(reload: Reload, confirm_s: int | None = None) -> str:
    if confirm_s is not None and not 0 < confirm_s <= _LONGEST_TRIAL_S:
        raise VarlinkError("org.varlink.service.InvalidParameter", parameter="confirm_s")
    try:
        return json.dumps({"digest": await reload(confirm_s)})
    except PolicyError as error:
        raise _refused(error) from None


async def _confirm(confirm: Callable[[], Awaitable[str]]) -> str:
    return json.dumps({"digest": await confirm()})


async def _plan(plan: Callable[[], Awaitable[str]]) -> str:
    try:
        return f'{{"plan":{await plan()}}}'
    except VfagentError as error:
        raise _refused(error) from None


async def _release(release: Callable[[str, bool], Awaitable[str]], pf: str, force: bool = False) -> str:  # noqa: FBT001, FBT002
    try:
        return json.dumps({"address": await release(pf, force)})
    except VfagentError as error:
        raise _refused(error) from None


def _refused(error: VfagentError) -> VarlinkError:
    if isinstance(error, PolicyError):
        unread = isinstance(error, PolicyUnreadError)
        return VarlinkError(f"{AGENT}.PolicyRefused", problems=error.problems, unread=unread)
    in_use = isinstance(error, RefusedError)
    return VarlinkError(f"{AGENT}.Refused", reason=str(error), hint=error.hint or "", in_use=in_use)
