# SPDX-License-Identifier: Apache-2.0
"""What a guest uses, as the host counts it."""

from vfagent.frozen import frozen


@frozen(slots=True)
class NicCounters:
    """As the guest sees them: what its tap sends, it receives. None for what cannot be read."""

    rx_bytes: int | None = None
    tx_bytes: int | None = None
    rx_packets: int | None = None
    tx_packets: int | None = None


@frozen(slots=True)
class GuestUsage:
    """None for what the kernel does not count."""

    cpu_s: float | None = None
    memory_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    nics: tuple[NicCounters, ...] = ()
