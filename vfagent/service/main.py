# SPDX-License-Identifier: Apache-2.0
"""`vfagent run`: the agent on this host, until it is told to end."""

import gc
from pathlib import Path

from vfagent.exit_status import Exit


def serve(*, debug: bool) -> int:
    gc.disable()  # what is loaded stays; looking for garbage in it took 6 to 10 % of the start
    from vfagent.process import memory
    from vfagent.service.preload import start_preload
    from vfagent.store.identity import open_host

    memory.small_pages()
    root = Path("/")
    host = open_host(root)
    early = start_preload(host, root)
    early.load_the_rest()
    import asyncio

    from vfagent.service.agent import Agent
    from vfagent.systemd.journal import setup_logging

    setup_logging(debug=debug)
    gc.freeze()  # and workers share its pages, which a collection would write to
    gc.enable()

    async def until_told() -> None:
        await Agent(host, root, early).run()

    asyncio.run(until_told())
    return Exit.OK
