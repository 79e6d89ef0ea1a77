# SPDX-License-Identifier: Apache-2.0
"""`vfagent check` and `vfagent schema`."""

import argparse
import json
import sys

from vfagent.exit_status import Exit
from vfagent.guests.spec.vnc import opened_to
from vfagent.model.printable import printable
from vfagent.policy.json_schema import schema as policy_schema
from vfagent.policy.warnings import warnings
from vfagent.store.policy_files import load, load_files, misnamed
from vfagent.store.policy_trust import untrusted_files


def check(args: argparse.Namespace) -> int:
    policy = load_files(args.files) if args.files else load(args.root)
    files = ", ".join(policy.files) or "no policy file"
    counts = f"{len(policy.pf)} PF rules, {len(policy.guest)} guests, {len(policy.bridge)} bridges"
    notes = [*warnings(policy), *([] if args.files else misnamed(args.root)), *untrusted_files(policy, args.root)]
    notes += [f"guest {rule.name}: {who}" for rule in policy.guest if (who := opened_to(rule))]
    for note in notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    print(f"{files}: valid: {counts}; digest {policy.digest}")
    return Exit.OK


def schema(_: argparse.Namespace) -> int:
    print(json.dumps(policy_schema(), indent=2))
    return Exit.OK
