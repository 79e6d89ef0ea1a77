# SPDX-License-Identifier: Apache-2.0
"""How long the metrics' server waits for a client."""

from vfagent.frozen import frozen


@frozen(slots=True)
class ClientLimits:
    """`read_s`: for its request, and its TLS handshake; `write_s`: until it has taken the answer."""

    read_s: float = 5.0
    write_s: float = 10.0


CLIENT_LIMITS = ClientLimits()
