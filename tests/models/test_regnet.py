import pytest

from cnnjax.models.regnet import PUBLISHED, stages

# The authors' configurations (pycls, `configs/dds_baselines`): depths and widths of the stages, and the width of a group.
AUTHORS = {
    "regnet_x_400mf": ((1, 2, 7, 12), (32, 64, 160, 400), 16),
    "regnet_x_3_2gf": ((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    "regnet_x_32gf": ((2, 7, 13, 1), (336, 672, 1344, 2520), 168),
    "regnet_y_400mf": ((1, 3, 6, 6), (48, 104, 208, 440), 8),
    "regnet_y_8gf": ((2, 4, 10, 1), (224, 448, 896, 2016), 56),
    "regnet_y_32gf": ((2, 5, 12, 1), (232, 696, 1392, 3712), 232),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_the_line_gives_the_authors_stages(name):
    fields = PUBLISHED[name].build.keywords
    found = stages(*(fields[key] for key in ("depth", "initial_width", "slope", "step", "group_width")))
    depths, widths, group_width = AUTHORS[name]
    assert [tuple(column) for column in zip(*found, strict=True)][:2] == [depths, widths]
    assert all(stage.group_width == group_width for stage in found)


def test_a_step_that_widens_nothing_is_refused():
    with pytest.raises(ValueError, match=r"regnet: step=1.0: expected a ratio of widths above 1"):
        stages(2, 24, 64.0, 1.0, 48)


def test_a_group_is_no_wider_than_its_stage():
    assert stages(2, 24, 64.0, 4.0, 48) == ((1, 24, 24), (1, 96, 48))
