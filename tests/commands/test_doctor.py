"""`cnnjax doctor` as a user meets it."""

from tests.commands.shell import run


def test_what_this_machine_can_do(capsys):
    _, out, _ = run(capsys, "doctor")
    names = {line.split("\t")[0] for line in out}
    assert {"malloc", "jax", "train.ops=fast", "xla_cpu_experimental_ynn_fusion_type"} <= names
