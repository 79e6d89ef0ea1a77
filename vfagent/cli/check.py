# SPDX-License-Identifier: Apache-2.0
"""`vfagent check` and `vfagent schema`."""

import argparse
import json
import sys

from vfagent.exit_status import Exit
from vfagent.guests.spec.vnc import opened_to
from vfagent.model.printable import printable
from vfagent.policy.json_schema import schema as policy_schema
from vfagent.store.policy_files import load, load_files
from vfagent.store.policy_trust import untrusted_files


def check(args: argparse.Namespace) -> int:
    policy = load_files(args.files) if args.files else load(args.root)
    files = ", ".join(policy.files) or "no policy file"
    counts = f"{len(policy.pf)} PF rules, {len(policy.guest)} guests, {len(policy.bridge)} bridges"
    for untrusted in untrusted_files(policy, args.root):
        print(printable(f"note: {untrusted}"), file=sys.stderr)
    for rule in policy.guest:
        if who := opened_to(rule):
            print(printable(f"note: guest {rule.name}: {who}"), file=sys.stderr)
    print(f"{files}: valid: {counts}; digest {policy.digest}")
    return Exit.OK


def schema(_: argparse.Namespace) -> int:
    print(json.dumps(policy_schema(), indent=2))
    return Exit.OK
