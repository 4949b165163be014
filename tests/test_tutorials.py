"""The tutorials: each runs as a reader would run it, and its outputs are those that the page shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pty")  # the runner gives commands a terminal
from docs import run_tutorials

PAGE = """# A page

```python
# half.py
def half(number):
    return number / 2
```

```python
from half import half

print(half(6))
```

```sh
echo "$COLUMNS columns"; pwd | wc -l
cp half.py copied.svg
```

```text varies
old
```

![a picture](page/copied.svg)
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A tutorial in a folder; what running it changes in the process is undone."""
    environment, paths = dict(os.environ), sys.path.copy()
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    yield page
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = paths
    sys.modules.pop("half", None)


def test_outputs_and_pictures_are_written_and_then_agree(page):
    assert run_tutorials.run_tutorial(page, check=False) is None
    text = page.read_text("utf-8")
    assert text == PAGE.replace("half(6))\n```\n", "half(6))\n```\n\n```text\n3.0\n```\n").replace(
        "old", "88 columns\n1"
    )
    assert (page.parent / "page" / "copied.svg").read_text("utf-8").startswith("# half.py")
    assert run_tutorials.run_tutorial(page, check=True) is None


def test_another_output_is_found_but_where_outputs_vary(page):
    run_tutorials.run_tutorial(page, check=False)
    stored = page.read_text("utf-8")
    page.write_text(stored.replace("88 columns", "77 columns"), "utf-8")
    assert run_tutorials.run_tutorial(page, check=True) is None
    page.write_text(stored.replace("3.0", "4.0"), "utf-8")
    wrong = run_tutorials.run_tutorial(page, check=True)
    assert "4.0" in wrong and "is now:\n3.0" in wrong
    assert "4.0" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("print(half(6))", "print(half())"), "half\\(\\) missing"),
        (("pwd | wc -l", "ls absent"), "these commands failed:(.|\n)*absent"),
    ],
)
def test_a_block_that_fails_ends_the_run(page, change, message):
    page.write_text(PAGE.replace(*change), "utf-8")
    with pytest.raises((TypeError, ValueError), match=message):
        run_tutorials.run_tutorial(page, check=False)
    assert page.read_text("utf-8") == PAGE.replace(*change)


def test_an_output_has_no_folder_of_this_machine_and_no_progress_bars(tmp_path):
    output = f"read {tmp_path}/a.jpg\nGenerating splits...:  33%|##  |\n\n\n\nin {tmp_path} of ~\n{run_tutorials.ROOT}/docs\n"
    assert run_tutorials.tidied(output, tmp_path) == "read a.jpg\n\nin . of ~\ndocs"


def test_a_picture_that_no_block_writes_is_named(page):
    page.write_text(PAGE.replace("copied.svg)", "other.svg)"), "utf-8")
    assert run_tutorials.run_tutorial(page, check=False) == "page.md: no block writes other.svg"


def test_every_tutorial_says_its_time_and_describes_its_pictures():
    names = run_tutorials.tutorials()
    assert len(names) >= 11
    for name in names:
        text = (run_tutorials.TUTORIALS / f"{name}.md").read_text("utf-8")
        assert re.search(r"\d+ s on 2 CPU cores", text), name
        assert all(len(words) > 15 for words in re.findall(r"!\[([^\]]*)\]", text)), name


EPOCHS = re.compile(r'((?:"epochs"|"train\.epochs"): |train\.epochs=)(\d+)')


def shortened(text):
    """A tutorial whose trainings are shorter: what they print varies with the processor and is not compared."""
    fewer = lambda found: f"{found[1]}{min(3, 1 + int(found[2]) // 5)}"  # noqa: E731
    return run_tutorials.BLOCK.sub(
        lambda block: block[0].replace(block["code"], EPOCHS.sub(fewer, block["code"])), text
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", run_tutorials.tutorials())
def test_a_tutorial_has_the_outputs_it_shows(name, tmp_path):
    text = (run_tutorials.TUTORIALS / f"{name}.md").read_text("utf-8")
    if "elpv" in text:
        pytest.importorskip("elpv_dataset")
    page = tmp_path / f"{Path(name).name}.md"
    page.write_text(shortened(text), "utf-8")
    command = [sys.executable, run_tutorials.__file__, str(page.with_suffix("")), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
