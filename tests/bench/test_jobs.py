"""``python -m fastlic.bench.jobs`` runs all its ways through both commands."""

from __future__ import annotations

import pytest

from fastlic.bench import jobs


@pytest.mark.slow
def test_every_way_is_timed_on_files_that_are_there(capsys):
    assert jobs.main(["--count", "2", "--megapixels", "0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    ways = [f"{command:<11}{way:<16}" for command in jobs.FORMATS for way in jobs.WAYS]
    assert [line[:27] for line in lines] == ways
    assert all(line.endswith(" x") for line in lines)
