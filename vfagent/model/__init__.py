# SPDX-License-Identifier: Apache-2.0
"""Frozen values. Workers send them by pickle, which runs no Python code for them (see `vfagent.frozen`)."""
