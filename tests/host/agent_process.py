# SPDX-License-Identifier: Apache-2.0
"""The service on a kernel made of files: `python -m tests.host.agent_process ROOT`."""

import asyncio
import faulthandler
import gc
import sys
from pathlib import Path

from tests.host.fake_kernel import FakeKernel
from vfagent.agent import Agent
from vfagent.errors import VfagentError
from vfagent.host.journal import setup_logging


async def serve(root: Path) -> None:
    await Agent(FakeKernel(root).host, root).run()


if __name__ == "__main__":
    faulthandler.enable()
    setup_logging(debug=False)
    gc.freeze()  # as the service does
    try:
        asyncio.run(serve(Path(sys.argv[1])))
    except VfagentError as error:
        sys.exit(str(error))
