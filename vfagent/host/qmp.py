# SPDX-License-Identifier: Apache-2.0
"""For guests that a vfagent without /usr/libexec/vfagent/stop-guest has started, and that still run.

Their units' ExecStop is `/usr/bin/python3 -sP -m vfagent.host.qmp stop SOCKET SECONDS`.
"""

import sys

from vfagent.guests.qmp import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
