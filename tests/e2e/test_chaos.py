"""A short `make chaos`: a load on the real service while it, its ledger and Docker are killed."""

from pathlib import Path

from tests.chaos.place import Place, end_all
from tests.chaos.play import Plan, play
from tests.chaos.scene import Options
from tests.kit.host_ports import own_ports

SEED = 11
KILLS = 6
CLIENTS = 4


def test_nothing_is_lost_lent_twice_or_left_behind(root: None, tmp_path: Path) -> None:
    place = Place(tmp_path)
    try:
        report = play(Plan(SEED, KILLS, CLIENTS, Options(ports=own_ports())), place, print)
    finally:
        end_all(tmp_path)
    assert report.ok, "\n".join(report.lines())
    assert report.damage.kills >= KILLS
    assert any(one.verdict == "acknowledged" for one in report.told)
