"""The arrows of the map."""

import graphlib

import pytest

from tools.draw_map import floors_of, modules, without_implied


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    arrows = {"top": {"middle", "ground"}, "middle": {"ground"}, "ground": set[str]()}
    assert without_implied(arrows) == {"top": {"middle"}, "middle": {"ground"}, "ground": set()}
    assert floors_of(arrows) == {"top": 3, "middle": 2, "ground": 1}


def test_a_circle_is_an_error() -> None:
    with pytest.raises(graphlib.CycleError):
        floors_of({"one": {"other"}, "other": {"one"}})


def test_a_name_imported_from_a_room_is_an_arrow_to_its_module() -> None:
    imports = modules()["ripieno.store.attempts.commit"].imports
    assert {"ripieno.store.graph.cuts", "ripieno.store.database.database"} <= imports
