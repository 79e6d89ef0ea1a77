# SPDX-License-Identifier: Apache-2.0
"""`vfagent run`: the agent on this host, until SIGTERM or SIGINT."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from vfagent.exit_status import Exit
from vfagent.process import memory

if TYPE_CHECKING:  # at run time it comes later
    from vfagent.service.planning import PlanJson


def serve(plan: "PlanJson", *, debug: bool) -> int:
    memory.small_pages()
    gc.disable()  # the modules stay: collections while they are loaded would take 12 ms of the start
    # late: 12 ms of the start (without the garbage collector)
    from vfagent.service.preload import start_preload
    from vfagent.store.identity import open_host  # late: the same 12 ms

    root = Path("/")
    host = open_host(root)
    preload = start_preload(host, root)
    preload.load_the_rest()
    import asyncio  # late: 7 ms (until here, workers make the first VFs)

    # late: 53 ms, with all that it imports (until here, workers make the first VFs)
    from vfagent.service.agent import Agent
    from vfagent.systemd.journal import setup_logging  # late: 13 ms, as it imports asyncio

    setup_logging(debug=debug)
    gc.freeze()  # workers share the pages of the modules, which a collection would write to
    gc.enable()

    async def run() -> None:
        await Agent(host, root, preload, plan=plan).run()

    asyncio.run(run())
    return Exit.OK
