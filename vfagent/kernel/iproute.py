# SPDX-License-Identifier: Apache-2.0
"""pyroute2's IPRoute, for the host's own network: loaded at its first use, and without the rest of pyroute2.

Each call opens its own socket: a long-lived IPRoute of pyroute2 0.9 grows by 1.6 KiB with each request.
"""

import importlib.util
import logging
import os
import sys
import types
from functools import cache
from typing import Any


def rtnetlink() -> Any:
    """A new IPRoute; the caller closes it."""
    return load()(ext_ack=True)


@cache
def load() -> Any:
    """The class IPRoute.

    pyroute2's own __init__ imports its database and its HTTP server. With it, 0.9.7 takes 74 ms of processor time and
    9.2 MiB, without it 36 ms and 4.0 MiB (2026-12-01, one run, medians of three); all processes at rest have 30 MiB to
    stay below. An empty package in its place lets this module be imported alone; 0.7 and 0.9 have the same modules.
    """
    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        if spec and spec.submodule_search_locations:
            package = types.ModuleType("pyroute2")
            package.__path__ = list(spec.submodule_search_locations)
            package.__spec__ = spec
            sys.modules["pyroute2"] = package
    # Its traffic control module reads /proc/net/psched at import and warns where that is hidden (ProcSubset=pid).
    logging.getLogger("pyroute2.netlink.rtnl.tcmsg.common").setLevel(logging.ERROR)
    from pyroute2.iproute.linux import IPRoute

    _add_attributes()
    return IPRoute


def _add_attributes() -> None:
    """pyroute2 0.7 does not know IFA_PROTO, nor the last metric of a route, RTAX_CC_ALGO."""
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    if not any(name == "IFA_PROTO" for name, *_ in ifaddrmsg.nla_map):
        added = (("IFA_RT_PRIORITY", "uint32"), ("IFA_TARGET_NETNSID", "hex"), ("IFA_PROTO", "uint8"))
        ifaddrmsg.nla_map = (*ifaddrmsg.nla_map, *added)
    if not any(name == "RTAX_CC_ALGO" for name, *_ in rtmsg.metrics.nla_map):
        rtmsg.metrics.nla_map = (*rtmsg.metrics.nla_map, ("RTAX_CC_ALGO", "asciiz"))


def ask(request: Any) -> Any:
    """Turns pyroute2's own error into an OSError with the kernel's errno and words."""
    try:
        return request()
    except OSError:
        raise
    except Exception as error:
        code = getattr(error, "code", None)
        if not isinstance(code, int):
            raise
        words = error.args[1] if len(error.args) > 1 else None
        raise OSError(code, str(words or os.strerror(code))) from error


def setter(**request: object) -> None:
    with rtnetlink() as ip:
        ask(lambda: ip.link("set", **request))
