"""The arguments and defaults that commands share."""

from pathlib import Path

from cnnjax.commands.arguments import exploration_folder
from tests.commands.shell import run


def test_what_is_seen_before_training_lies_beside_each_other(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def get_config(name='digits'):\n    return {'dataset': {'name': name}}\n")
    code, out, _ = run(capsys, "preview", "--config", "quickstart", "--config.model.name=mlp")
    assert code == 0 and out == ["picture: exploration/quickstart/preview.png"]
    for source, folder in (("digits", "digits"), ("mine.py:digits", "mine")):
        code, out, _ = run(capsys, "explore", source)
        assert code == 0 and out[-1] == f"page: exploration/{folder}/index.html"
    assert run(capsys, "find-lr", "--config", "quickstart", "--steps", "1")[0] == 1  # nothing is left of it
    assert sorted(map(str, Path().glob("exploration/*/*"))) == [
        "exploration/digits/index.html", "exploration/mine/index.html", "exploration/quickstart/preview.png"
    ]  # fmt: skip
    for source, name in (("emnist/balanced", "emnist_balanced"), (".", tmp_path.name), ("runs/a/config.json", "a")):
        assert exploration_folder(source) == Path("exploration", name)
