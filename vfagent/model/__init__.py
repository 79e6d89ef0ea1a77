# SPDX-License-Identifier: Apache-2.0
"""Frozen values, which travel from workers: pickle does that without a line of Python (`vfagent.frozen`)."""
