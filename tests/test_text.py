"""Text that is made safe, short and readable."""

import pytest

from lorabench.text import human_duration


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.4, "0:00"), (59.6, "1:00"), (123, "2:03"), (3600, "1:00:00"), (360_061, "100:01:01")],
)
def test_a_duration_is_written_as_a_clock_does(seconds, written):
    assert human_duration(seconds) == written
