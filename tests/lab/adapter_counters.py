# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: prints, as JSON, what vfagent's adapter reads of VF 0 of a netdev."""

import json
import socket
import sys

from vfagent.kernel.vf_counters import read_counters

counters = read_counters(socket.if_nametoindex(sys.argv[1]))[0]
print(json.dumps({name: getattr(counters, name) for name in counters.__slots__}))
