# SPDX-License-Identifier: Apache-2.0
"""`vfagent help`."""

import argparse

from vfagent.cli.parser import help_of
from vfagent.exit_status import Exit


def help_(args: argparse.Namespace) -> int:
    print(help_of(args.commands), end="")
    return Exit.OK
