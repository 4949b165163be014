"""`cnnjax fields` as a user meets it."""

from tests.commands.shell import run


def test_the_fields_of_a_config(capsys):
    _, out, _ = run(capsys, "fields")
    assert any(line.split("\t")[:2] == ["train.batch_size", "128"] for line in out)
    assert len(out) < 200 and any(
        line.startswith("optimizer.name\tsgd\tone of ".replace("sgd", "'sgd'")) for line in out
    )
    _, whole, _ = run(capsys, "fields", "--all")
    assert len(whole) > len(out) and not any("optimizer.b1" in line for line in out)
    assert any(line.startswith("optimizer.b1\t") for line in whole)
    code, out, _ = run(capsys, "fields", "optimizer.sgd")
    assert code == 0 and {line.split("\t")[0].partition(".")[0] for line in out[1:]} == {"optimizer"}
    for spelling in ("train.batch_size", "train.batch-size"):
        code, out, _ = run(capsys, "fields", spelling)
        assert code == 0 and out[1].split("\t")[:2] == ["train.batch_size", "128"] and len(out) == 2
    code, _, err = run(capsys, "fields", "optimiser")
    assert code == 1 and err == ["cnnjax: unknown section 'optimiser': did you mean 'optimizer'?"]
