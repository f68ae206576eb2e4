"""Contract checks for plug-ins: run them in the tests of your own method, space, data source or device.

Each takes the plug-in and returns nothing, or raises `BrokenRule`, an `AssertionError` whose one line names the
plug-in, the rule and what was seen. No test runner is needed. The built-in plug-ins are held to the same checks.

    from nas_kd.testing import check_method

    def test_my_method():
        check_method(MyMethod)
"""

from nas_kd.testing.devices import check_device
from nas_kd.testing.methods import check_method
from nas_kd.testing.rules import BrokenRule
from nas_kd.testing.sources import check_source
from nas_kd.testing.spaces import check_space
from nas_kd.testing.tasks import check_task

__all__ = ["BrokenRule", "check_device", "check_method", "check_source", "check_space", "check_task"]
