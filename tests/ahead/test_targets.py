import pytest

from cnnjax.ahead import targets


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("tpu:v5e:2x4", "tpu:v5e:2x4", 8), ("tpu:v5e:8", "tpu:v5e:2x4", 8), ("tpu:v5p:64", "tpu:v5p:4x4x4", 64),
        ("tpu:v4:2x2x1", "tpu:v4:2x2x1", 8), ("tpu:v6e", "tpu:v6e:1x1", 1), ("cuda:h100", "cuda:h100:1", 1), ("cuda:b200:16", "cuda:b200:16", 16),
    ],
)  # fmt: skip
def test_a_target_is_a_chip_and_a_number(text, name, count):
    target = targets.parse(text)
    assert (str(target), target.count) == (name, count) and targets.parse(name) == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h100", "expected tpu:CHIP:SLICE or cuda:CHIP:COUNT"),
        ("tpu:h100:8", "unknown chip of tpu 'h100'"),
        ("tpu:v5:2x4", "did you mean"),
        ("tpu:v5e:3x3", "expected a slice of v5e: 1x1, 2x2"),
        ("tpu:v5e:0", "expected a slice"),
        ("tpu:v5p:2x4", "expected a slice of v5p: 1x1x1"),
        ("cuda:h100:12", "expected 1 to 8 GPUs, or a multiple of 8"),
        ("cuda:h100:0", "expected 1 to 8 GPUs"),
        ("cuda:h100:two", "expected 1 to 8 GPUs"),
    ],
)
def test_another_is_refused_with_what_there_is(text, message):
    with pytest.raises(ValueError, match=message):
        targets.parse(text)


def test_without_the_compiler_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"pip install 'cnnjax\[aot-tpu\]'"):
        targets.check_compiler(targets.parse("tpu:v5e"))
    with pytest.raises(RuntimeError, match=r"pip install 'cnnjax\[aot-cuda\]'"):
        targets.check_compiler(targets.parse("cuda:h100"))


def test_a_gpu_is_described_by_its_published_figures():
    described = targets.gpu_description(targets.parse("cuda:a100"))
    assert "core_count: 108" in described and "memory_bandwidth: 2039000000000" in described and "major: 8" in described
