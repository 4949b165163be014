"""`cnnjax models` as a user meets it."""

import cnnjax
from tests.commands.shell import run


def test_the_table_of_models_is_tab_separated_for_programs(capsys):
    _, out, _ = run(capsys, "models")
    assert [line.split("\t")[0] for line in out[1:]] == cnnjax.list_models()
    figures = {line.split("\t")[0]: line.split("\t")[1:5] for line in out[1:]}
    assert figures["vgg16"] == ["138,357,544", "15,470,264,320", "224x224x3", "torchvision and Keras"]
    weights = {name: row[3] for name, row in figures.items()}
    assert (weights["resnet50"], weights["resnet50_torchvision"], weights["resnet20"]) == ("Keras", "torchvision", "-")


def test_models_are_chosen_by_a_pattern_and_a_task(capsys):
    _, out, _ = run(capsys, "models", "f*s", "--task", "segmentation")
    assert [line.split("\t")[0] for line in out[1:]] == ["fcn16s", "fcn32s", "fcn8s"]
    assert run(capsys, "models", "x*y")[2] == ["cnnjax: no model matches 'x*y': `cnnjax models` lists all"]
    _, _, errors = run(capsys, "models", "--task", "segmetation")
    assert errors == ["cnnjax: unknown task of models 'segmetation': did you mean 'segmentation' or 'detection'?"]


def test_the_options_of_one_model(capsys):
    _, out, _ = run(capsys, "models", "mlp")
    assert any(line.split("\t")[:2] == ["features", "(800,)"] for line in out)
