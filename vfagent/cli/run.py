# SPDX-License-Identifier: Apache-2.0
"""`vfagent run` with options; without any, main starts the service itself."""

import argparse

from vfagent.cli.plan import plan_json
from vfagent.service.main import serve


def run(args: argparse.Namespace) -> int:
    return serve(plan_json, debug=args.debug)
