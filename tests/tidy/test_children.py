"""Programs of our own that the service starts: `python -m` would look for modules where the
service was started first, and whoever may write there would be root."""

import re
from pathlib import Path

SERVICE = Path(__file__).parents[2] / "service"


def test_no_child_takes_modules_from_where_it_was_started() -> None:
    starts = [
        start
        for path in sorted(SERVICE.rglob("*.py"))
        for start in re.findall(r"\(sys\.executable, .*?\)", path.read_text(), re.DOTALL)
    ]
    assert len(starts) > 3
    assert [start for start in starts if '"-P"' not in start and '"-I"' not in start] == []
