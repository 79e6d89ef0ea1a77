# SPDX-License-Identifier: Apache-2.0
"""The service with a kernel made of files: `python -m tests.host.agent_process ROOT`."""

import asyncio
import faulthandler
import gc
import sys
from pathlib import Path

from tests.host.fake_kernel import FakeKernel
from vfagent.cli.plan import plan_json
from vfagent.errors import VfagentError
from vfagent.service.agent import Agent
from vfagent.service.preload import Preload, start_preload
from vfagent.systemd.journal import setup_logging


async def serve(preload: Preload, root: Path) -> None:
    await Agent(preload.host, root, preload, plan=plan_json).run()


if __name__ == "__main__":
    faulthandler.enable()
    folder = Path(sys.argv[1])
    try:
        preload = start_preload(FakeKernel(folder).host, folder)
        preload.load_the_rest()
        setup_logging(debug=False)
        gc.freeze()  # as the service does
        asyncio.run(serve(preload, folder))
    except VfagentError as error:
        sys.exit(str(error))
