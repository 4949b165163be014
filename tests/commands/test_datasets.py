"""`cnnjax datasets` as a user meets it."""

from tests.commands.shell import run


def test_the_table_of_data_sets_is_tab_separated_for_programs(capsys):
    _, out, _ = run(capsys, "datasets")
    assert len(out) > 15 and out[1].split("\t")[:6] == ["digits", "1,442", "355", "10", "32x32x1", "cached"]
