# SPDX-License-Identifier: Apache-2.0
"""devlink: the eswitch mode of a PF.

pyroute2 knows the messages but has no call for this one; its socket is synchronous up to 0.8 and asynchronous after.
"""

import asyncio
from typing import Any

from vfagent.host.rtnl import IPRoute  # noqa: F401  (brings pyroute2 without the rest of it)
from vfagent.model.pci import PciAddress

_MODES = {0: "legacy", 1: "switchdev"}


class KernelDevlink:
    def eswitch_mode(self, address: PciAddress, *, bus: str = "pci") -> str | None:
        """`legacy` or `switchdev`; None where the driver has no devlink or no eswitch."""
        for message in _ask(bus, address):
            mode = message.get_attr("DEVLINK_ATTR_ESWITCH_MODE")
            return None if mode is None else _MODES.get(mode)
        return None


def _ask(bus: str, name: str) -> list[Any]:
    from pyroute2 import devlink
    from pyroute2.netlink.devlink import DEVLINK_NAMES, devlinkcmd

    request = devlinkcmd()
    request["cmd"] = DEVLINK_NAMES["DEVLINK_CMD_ESWITCH_GET"]
    request["attrs"] = [("DEVLINK_ATTR_BUS_NAME", bus), ("DEVLINK_ATTR_DEV_NAME", name)]
    try:
        if hasattr(devlink, "AsyncDL"):
            return asyncio.run(_ask_async(devlink.AsyncDL, request))
        with devlink.DL() as socket:
            return list(socket.nlm_request(request, msg_type=socket.prid, msg_flags=1))
    except Exception:
        # ENODEV: no devlink behind this device; EOPNOTSUPP: no eswitch; no family: no devlink in this kernel.
        return []


async def _ask_async(kind: Any, request: Any) -> list[Any]:
    async with kind() as socket:
        return [message async for message in await socket.nlm_request(request, msg_type=socket.prid, msg_flags=1)]
