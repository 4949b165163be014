"""`cnnjax find-lr` as a user meets it."""

from PIL import Image

from tests.commands.shell import QUICK, run


def test_a_learning_rate_is_found_and_drawn(capsys, tmp_path):
    command = "find-lr", "--config", "quickstart", *QUICK[:1], "--config.devices=1", "--steps", "15", "--lowest", "1e-3"
    code, out, _ = run(capsys, *command, "--out", tmp_path / "rates.png")
    assert code == 0 and "steepest fall at" in out[-2] and out[-1] == f"plot: {tmp_path / 'rates.png'}"
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.width > 500
    code, _, errors = run(capsys, *command, "--out", tmp_path / "nowhere" / "rates.png")
    assert code == 1 and "there is no folder" in errors[-1]
