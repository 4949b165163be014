"""Runs the tutorials and writes what their blocks print into them: `make tutorials`, or `python docs/run_tutorials.py NAME ...`.

A tutorial is a file of docs/tutorials. Its blocks are run in their order in an empty folder, as a reader would copy them there:

- a `python` block that begins with a comment that is a file's name (`# net.py`) is that file;
- the other `python` blocks are one script, each block continuing the one before;
- a `sh` block is run by bash, on a terminal of 88 columns.

What a block prints is written into a `text` block directly after it; a table of Markdown as a table, between two comments. A picture
of the page's own folder, `![...](digits/curves.png)`, is the file `curves.png` that the blocks wrote, or a screenshot of a part of an
HTML page that they wrote, by a comment such as

    <!-- screenshot of #confusion in runs/digits/report/index.html: confusion.png -->

(for which playwright and Chromium are needed). With `--check` nothing is written: the output must be the one that the page has. An
output that depends on the processor or its speed (a training's) is marked by its author, "```text varies", and is not compared.
"""

import argparse
import contextlib
import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

TUTORIALS = Path(__file__).parent / "tutorials"
ROOT = TUTORIALS.parents[1]
COLUMNS = 88
SCREENSHOT = re.compile(r"<!-- screenshot of (\S+) in (\S+): (\S+) -->")
CHROMIUM = "/usr/bin/chromium"
HIGHEST = 900  # pixels of a screenshot
BLOCK = re.compile(
    r"^```(?P<language>python|sh)\n(?P<code>.*?)^```\n"
    r"(?:\n(?:```text|<!-- output)(?P<varies> varies)?(?: -->)?\n(?P<output>.*?)^(?:```|<!-- end of output -->)\n)?",
    re.DOTALL | re.MULTILINE,
)


def main() -> None:
    """Runs the tutorials that are named, or all, each in a process of its own."""
    parser = argparse.ArgumentParser(description="Runs tutorials and writes what their blocks print into them.")
    parser.add_argument("names", nargs="*", help="files of docs/tutorials, without .md (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where an output is not the page's")
    options = parser.parse_args()
    if len(options.names) == 1:
        sys.exit(run_tutorial(TUTORIALS / f"{options.names[0]}.md", options.check))
    flags = ["--check"] if options.check else []
    failed = [
        name
        for name in options.names or tutorials()
        if subprocess.run([sys.executable, __file__, name, *flags], check=False).returncode
    ]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def tutorials() -> list[str]:
    """The names of the tutorials: the files that have blocks, by their paths in docs/tutorials."""
    pages = [path for path in sorted(TUTORIALS.rglob("*.md")) if BLOCK.search(path.read_text("utf-8"))]
    return [page.relative_to(TUTORIALS).with_suffix("").as_posix() for page in pages]


def run_tutorial(page: Path, check: bool) -> str | None:
    """Runs a tutorial and writes its outputs and pictures, or compares the outputs.

    Args:
      page: the tutorial's file.
      check: whether to compare the outputs with those of the page instead of writing them.

    Returns:
      What is wrong, or None.
    """
    text, start = page.read_text("utf-8"), time.perf_counter()
    pictures = re.findall(rf"!\[[^\]]*\]\({page.stem}/([^)]+)\)", text)
    shots = SCREENSHOT.findall(text)
    with tempfile.TemporaryDirectory(prefix="tutorial-") as name:
        folder = Path(name)
        executed = execute(text, folder)
        if shots and not check:
            take_screenshots(shots, folder)
        expected = set(pictures) - ({picture for *_, picture in shots} if check else set())
        missing = sorted(picture for picture in expected if not (folder / picture).exists())
        if missing:
            return f"{page.name}: no block writes {', '.join(missing)}"
        if not check:
            page.write_text(executed, "utf-8")
            for picture in pictures:
                store(folder / picture, page.with_suffix("") / picture)
    print(f"{page.stem}: {time.perf_counter() - start:.0f} s")
    if check:
        return difference(text, executed)
    return None


def execute(text: str, folder: Path) -> str:
    """The text of a tutorial with the outputs of its blocks, which are run in a folder."""
    names: dict[str, Any] = {"__name__": "__main__"}
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ.update(PATH=paths, MPLBACKEND="Agg", TERM="dumb", COLUMNS=str(COLUMNS))
    # With LINES, which pytest sets, Rich's tables would have COLUMNS and not the 80 that it gives to a dumb terminal.
    for name in ("PYTHONPATH", "LINES"):
        os.environ.pop(name, None)
    os.chdir(folder)
    sys.path[0] = str(folder)

    def run(block: re.Match[str]) -> str:
        code = block["code"]
        file_name = re.match(r"# (\w+\.py)\n", code)
        if block["language"] == "sh":
            output = in_shell(code)
        elif file_name:
            (folder / file_name[1]).write_text(code, "utf-8")
            output = ""
        else:
            output = in_python(code, names)
        output = tidied(output, folder)
        return f"```{block['language']}\n{code}```\n{shown(output, block['varies'] or '')}"

    return BLOCK.sub(run, text)


def tidied(output: str, folder: Path) -> str:
    """An output without this machine's folders, and without the progress bars that a terminal has erased by its end."""
    for place, name in (
        (f"{folder}/", ""),
        (f"{ROOT}/", ""),
        (str(folder), "."),
        (f"{Path.home()}/.cache", "~/.cache"),
    ):
        output = output.replace(place, name)
    lines = [line.rstrip() for line in output.splitlines()]
    kept = [line for line in lines if not re.match(r"(Generating|Shuffling) ", line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")


def shown(output: str, varies: str) -> str:
    """The output as it stands below its block: a table of Markdown as one, anything else as text, and nothing as nothing."""
    if output.startswith("| "):
        return f"\n<!-- output{varies} -->\n\n{output}\n\n<!-- end of output -->\n"
    return f"\n```text{varies}\n{output}\n```\n" if output else ""


def in_python(code: str, names: dict[str, Any]) -> str:
    """What a block of Python prints, run with the names that earlier blocks defined."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            exec(compile(code, "block", "exec"), names)
        except BaseException:
            print(f"this block failed:\n{code}\n{printed.getvalue()}", file=sys.__stderr__)
            raise
    return printed.getvalue()


def in_shell(code: str) -> str:
    """What a block of commands shows on a terminal."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    process = subprocess.Popen(["bash", "-e", "-c", code], stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end, on Linux
        while part := os.read(reader, 65536):
            shown += part
    os.close(reader)
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode("utf-8").replace("\r\n", "\n"))
    if process.wait():
        raise ValueError(f"these commands failed:\n{code}\n{output}")
    return output


def take_screenshots(shots: Sequence[tuple[str, str, str]], folder: Path) -> None:
    """Writes pictures of parts of HTML pages: (the part's CSS selector, the page, the picture), in a folder."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1100, "height": 800})
        for selector, page, picture in shots:
            opened.goto((folder / page).as_uri())
            part = opened.locator(selector).first.bounding_box()
            part["height"] = min(part["height"], HIGHEST)
            opened.screenshot(path=folder / picture, full_page=True, clip=part)
        browser.close()


def store(source: Path, target: Path) -> None:
    """Copies a picture; a PNG with 256 colours, which is a third of the size."""
    target.parent.mkdir(exist_ok=True)
    if source.suffix == ".png":
        with Image.open(source) as picture:
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    else:
        shutil.copyfile(source, target)


def difference(stored: str, executed: str) -> str | None:
    """The first block whose output is not the stored one, as a message; None where all agree but those that vary."""
    for before, after in zip(BLOCK.finditer(stored), BLOCK.finditer(executed), strict=True):
        same = bool(after["output"]) if before["varies"] else before["output"] == after["output"]
        if not same:
            return f"another output than the page has:\n{before[0]}\nis now:\n{after['output']}"
    return None


if __name__ == "__main__":
    main()
