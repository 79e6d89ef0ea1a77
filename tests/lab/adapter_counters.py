# SPDX-License-Identifier: Apache-2.0
"""Runs in the VM: prints, as JSON, the counters of VF 0 of a netdev, read by vfagent's adapter."""

import json
import socket
import sys

from vfagent.kernel.vf_counters import read_counters

counters = read_counters(socket.if_nametoindex(sys.argv[1]))[0]
print(json.dumps({name: getattr(counters, name) for name in counters.__slots__}))
