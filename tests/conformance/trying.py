"""A law tried on a plugin as one test. Both are named when tests are collected, and bound when the test runs."""

import pytest

from sdezoo.conformance.law import BoundLaw


def try_law(suite, name, plugin):
    """Try the law; skip it, with the reason, where it does not apply."""
    law = suite[name]
    reason = law.excuse(plugin)
    if reason:
        pytest.skip(reason)
    BoundLaw(law, plugin)()
