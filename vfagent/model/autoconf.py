# SPDX-License-Identifier: Apache-2.0
"""What an interface takes from its network by itself: IPv6 addresses and routes that a router advertises."""

from dataclasses import replace

from vfagent.frozen import frozen

_NO_LINK_LOCAL = 1  # IN6_ADDR_GEN_MODE_NONE: the kernel makes no link-local address


@frozen
class Ipv6Conf:
    """net.ipv6.conf.INTERFACE, as far as autoconfiguration goes (Documentation/networking/ip-sysctl.rst)."""

    accept_ra: int
    autoconf: int
    addr_gen_mode: int

    def kept_out(self, *, link_local: bool = False) -> "Ipv6Conf":
        """The values with which it takes nothing. An interface with IPv6 addresses of its own needs its link-local one:
        the kernel reports multicast groups from it (mld_newpack)."""
        kept = replace(self, accept_ra=0, autoconf=0)
        return kept if link_local else replace(kept, addr_gen_mode=_NO_LINK_LOCAL)

    @property
    def open(self) -> bool:
        """Whether a router on the network can give it addresses or routes."""
        return bool(self.accept_ra)
