"""`cnnjax models` as a user meets it."""

import cnnjax
from tests.commands.shell import run


def test_the_table_of_models_is_tab_separated_for_programs(capsys):
    _, out, _ = run(capsys, "models")
    assert [line.split("\t")[0] for line in out[1:]] == cnnjax.list_models()
    figures = {line.split("\t")[0]: line.split("\t")[1:5] for line in out[1:]}
    assert figures["vgg16"] == ["138,357,544", "15,470,264,320", "224x224x3", "vgg16"]
    assert figures["resnet50"][3] == "-" and figures["resnet50_torchvision"][3] == "resnet50"


def test_the_options_of_one_model(capsys):
    _, out, _ = run(capsys, "models", "mlp")
    assert any(line.split("\t")[:2] == ["features", "(800,)"] for line in out)
