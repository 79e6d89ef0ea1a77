# SPDX-License-Identifier: Apache-2.0
"""The interfaces of the control socket, in Varlink's own language."""

SOCKET = "run/vfagent/control.sock"

AGENT = "io.vfagent"
GUEST = "io.vfagent.Guest"

INTERFACES = {
    AGENT: """\
# The service of vfagent(8): the PFs of this host, their VFs, and the policy
interface io.vfagent

# The status, as of `vfagent status --json`
method Status() -> (status: object)

# With `more`: the status, and again at each change
method Monitor() -> (status: object)

# Loads the policy from its files and reconciles every PF; the digest of the policy is that of `vfagent check`. With
# confirm_s the policy before it comes back after so many seconds, unless Confirm is called. For root
method Reload(confirm_s: ?int) -> (digest: string)

# Keeps the policy that waits for it. For root
method Confirm() -> (digest: string)

# What would be done now with the policy in the files, as of `vfagent plan --json`. Nothing is changed
method Plan() -> (plan: object)

# Gives a PF back as it was before vfagent changed it, and leaves it alone until the next Reload. pf: an interface or a
# PCI address. With force also if a VF is in use, which takes the VF from its user. For root
method Release(pf: string, force: ?bool) -> (address: string)

# The policy is invalid, or could not be read: the active one is unchanged
error PolicyRefused (problems: []string, unread: bool)

# The policy cannot be gone back from: the files of the one before cannot be kept
error CannotConfirm (reason: string)

error NothingToConfirm ()

# The PF cannot be planned or released: in_use where a VF of it is in use
error Refused (reason: string, hint: string, in_use: bool)

# The file of the trial cannot be removed: the policy is on trial still, and the active one is unchanged
error CannotEndTrial (reason: string)

error TooManyRequests ()
""",
    GUEST: """\
# Guests of vfagent(8), by the names that `vfagent guest list` shows
interface io.vfagent.Guest

# Starts a guest that was stopped, that has powered itself off, or that failed. For root
method Start(name: string) -> ()

# Powers a guest off. It stays stopped until it is started, its rule changes, or the host boots. For root
method Stop(name: string) -> ()

error Refused (reason: string)
""",
}
