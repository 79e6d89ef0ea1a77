# SPDX-License-Identifier: Apache-2.0
"""The events that the journal's catalog explains: `journalctl -x`, packaging/vfagent.catalog."""

from enum import StrEnum


class Message(StrEnum):
    """Each event's MESSAGE_ID. An ID never changes its meaning: systemd.journal-fields(7)."""

    CONVERGED = "be1911b7893844828f64d476399a592e"
    DRIFT = "436fd8a1251644068659929461dc2e76"
    DEFERRED = "cd4d1c30fb23456982c3183195bcd70d"
    PROBLEM = "5a461f2d99f54a0c97827760d89b28a6"
    STUCK = "138d2b59230c41beb3ec1bd5810c7b0a"
    SUSPENDED = "e43c5bc265374e5f83c3e7ce075d2a99"
    GUEST_STARTING = "b15c180f38084a98971f71f1fe105717"
    GUEST_NOT_STARTED = "412cc4385df140869286cec1625b6baf"
    GUEST_ENDED = "6acbeada836e425581d59ded2b128f1a"
    GUEST_FAILED = "24d17a936053497283971a32b0b45558"
    POLICY_ACTIVE = "aa1415b2e06245ccb181f02f801ea58c"
    POLICY_REFUSED = "dceacbae457140e3a3288c0d373bac5a"
