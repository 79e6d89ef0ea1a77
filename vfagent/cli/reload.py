# SPDX-License-Identifier: Apache-2.0
"""`vfagent reload` and `vfagent confirm`: the running service loads its policy, or keeps one that is on trial."""

import argparse
import sys
from pathlib import Path

from vfagent.cli.status_file import report_no_service
from vfagent.errors import PolicyError, PolicyUnreadError, VfagentError
from vfagent.exit_status import Exit
from vfagent.service.control_client import ErrorReplyError, call
from vfagent.service.control_interface import AGENT

_NOT_REMOVED = "/var/lib/vfagent/unconfirmed.json cannot be removed"
_TRIAL_GOES_ON = "unless it is confirmed in time, the service goes back to the policy before it"


def reload(args: argparse.Namespace) -> int:
    """ExecReload= of the service: its exit status is that of `systemctl reload`."""
    try:
        digest = request_reload(args.root)
    except FileNotFoundError:
        return report_no_service()
    print(f"policy {digest} is active", file=sys.stderr)
    return Exit.OK


def confirm(args: argparse.Namespace) -> int:
    try:
        digest = call(args.root, f"{AGENT}.Confirm")["digest"]
    except FileNotFoundError:
        return report_no_service()
    except ErrorReplyError as error:
        match error.name, error.parameters:
            case "io.vfagent.NothingToConfirm", _:
                text, hint = "confirm: no policy waits for it", "vfagent status shows which one is active"
            case "io.vfagent.CannotEndTrial", {"reason": str(reason)}:
                text, hint = f"confirm: the policy is on trial still: {_NOT_REMOVED}: {reason}", _TRIAL_GOES_ON
            case _:
                raise
        raise VfagentError(text, hint=hint) from None
    print(f"policy {digest} is confirmed", file=sys.stderr)
    return Exit.OK


def request_reload(root: Path, confirm_s: int | None = None) -> str:
    """The digest of the policy that is active now. Raises PolicyError, and FileNotFoundError without a service."""
    try:
        return str(call(root, f"{AGENT}.Reload", confirm_s=confirm_s)["digest"])
    except ErrorReplyError as error:
        match error.name, error.parameters:
            case "io.vfagent.PolicyRefused", {"problems": [*problems], "unread": bool(unread)}:
                kind = PolicyUnreadError if unread else PolicyError
                raise kind([str(problem) for problem in problems]) from None
            case "io.vfagent.CannotConfirm", {"reason": str(reason)}:
                text = f"the policy before it cannot be kept in /var/lib/vfagent: {reason}; nothing was changed"
                raise VfagentError(text) from None
            case "io.vfagent.CannotEndTrial", {"reason": str(reason)}:
                text = f"nothing was changed, as another policy is on trial still: {_NOT_REMOVED}: {reason}"
                raise VfagentError(text, hint=_TRIAL_GOES_ON) from None
        raise
