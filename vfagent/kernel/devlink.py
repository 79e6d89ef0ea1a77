# SPDX-License-Identifier: Apache-2.0
"""devlink: the eswitch mode of a PF, read and set.

pyroute2 has the messages but no call for them. Its socket is synchronous up to 0.8 and asynchronous from 0.9 on.
"""

from typing import Any

from vfagent.kernel.iproute import ask, load
from vfagent.model.pci import PciAddress

_MODES = {0: "legacy", 1: "switchdev"}
_NUMBERS = {mode: number for number, mode in _MODES.items()}
_GET, _SET = "DEVLINK_CMD_ESWITCH_GET", "DEVLINK_CMD_ESWITCH_SET"
_REQUEST, _ACK = 0x1, 0x4  # NLM_F_*
_SOL_NETLINK, _EXT_ACK = 270, 11


class KernelDevlink:
    def eswitch_mode(self, address: PciAddress, *, bus: str = "pci") -> str | None:
        """`legacy` or `switchdev`; None where the driver has no devlink or no eswitch."""
        try:
            messages = _request(_GET, bus, address)
        except Exception:
            # ENODEV: the driver has no devlink; EOPNOTSUPP: no eswitch; without the family the kernel has no devlink.
            return None
        modes = (message.get_attr("DEVLINK_ATTR_ESWITCH_MODE") for message in messages)
        return next((_MODES[mode] for mode in modes if mode in _MODES), None)

    def set_eswitch_mode(self, address: PciAddress, mode: str, *, bus: str = "pci") -> None:
        """Raises OSError."""
        ask(lambda: _request(_SET, bus, address, ("DEVLINK_ATTR_ESWITCH_MODE", _NUMBERS[mode])))


def _request(command: str, bus: str, name: str, *attributes: tuple[str, int]) -> list[Any]:
    load()  # before any other import of pyroute2
    from pyroute2 import devlink
    from pyroute2.netlink.devlink import DEVLINK_NAMES, devlinkcmd

    request = devlinkcmd()
    request["cmd"] = DEVLINK_NAMES[command]
    request["attrs"] = [("DEVLINK_ATTR_BUS_NAME", bus), ("DEVLINK_ATTR_DEV_NAME", name), *attributes]
    # SET has no answer but the acknowledgement.
    flags = _REQUEST | (_ACK if command == _SET else 0)
    if hasattr(devlink, "AsyncDL"):
        import asyncio  # late: 13 ms of the first reconcile (most cards have no devlink eswitch)

        return asyncio.run(_request_async(devlink.AsyncDL, request, flags))
    with devlink.DL() as socket:
        socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        return list(socket.nlm_request(request, msg_type=socket.prid, msg_flags=flags))


async def _request_async(socket_class: Any, request: Any, flags: int) -> list[Any]:
    async with socket_class(ext_ack=True) as socket:
        return [message async for message in await socket.nlm_request(request, msg_type=socket.prid, msg_flags=flags)]
