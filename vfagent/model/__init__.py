# SPDX-License-Identifier: Apache-2.0
"""Frozen values. What travels from a worker has no slots: a frozen dataclass with slots is pickled by Python code."""
