"""Components by name."""

import sys

import pytest

from cnnjax.core import locate

OURS = {"lenet5": dict, "mlp": list}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder; the test runs in another."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    user = tmp_path / "user"
    user.mkdir()
    return user


def write(folder, name, text):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_a_name_is_ours_a_modules_attribute_or_a_files(folder):
    write(folder, "located_net.py", "class Net: pass\nclass Outer:\n    class Inner: pass\n")
    assert locate.locate("model.name", "lenet5", OURS) is dict
    assert locate.locate("model.name", "collections:OrderedDict", OURS).__name__ == "OrderedDict"
    net = locate.locate("model.name", "./located_net.py:Net", OURS, folder)
    assert net.__name__ == "Net"
    assert locate.locate("model.name", "./located_net.py:Outer.Inner", OURS, folder).__name__ == "Inner"


def test_a_file_is_looked_for_in_the_folder_then_in_the_working_directory(folder, tmp_path):
    write(folder, "placed.py", "class Net: where = 'folder'")
    write(tmp_path / "elsewhere", "placed.py", "class Net: where = 'working directory'")
    write(tmp_path / "elsewhere", "only_here.py", "class Net: where = 'working directory'")
    assert locate.locate("model.name", "./placed.py:Net", {}, folder).where == "folder"
    assert locate.locate("model.name", "./placed.py:Net", {}).where == "working directory"
    assert locate.locate("model.name", "./only_here.py:Net", {}, folder).where == "working directory"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenet", "^unknown model.name 'lenet': did you mean 'lenet5'"),
        ("x", "choose from lenet5, mlp; one of your own is package.module:Attribute or ./file.py:Attribute$"),
        ("./met.py:Net", "model.name: unknown file './met.py': did you mean './net.py'.*looked in"),
        ("./net.py:Nett", "model.name='./net.py:Nett': unknown attribute of ./net.py 'Nett': did you mean 'Net'"),
        ("./net.py:number", "model.name='./net.py:number': expected a class or a function, got int"),
        ("./bad.py:Net", r"model.name: .*bad.py cannot be run: ZeroDivisionError: division by zero \(line 2\)"),
        ("./wrong.py:Net", "model.name: .*wrong.py cannot be run: SyntaxError"),
        ("optaxx:lion", "model.name: unknown module 'optaxx': did you mean"),
        ("zzqq.yy:lion", "model.name: no module zzqq.yy"),
        ("collections:OrderedDct", "did you mean 'OrderedDict'"),
    ],
)
def test_a_wrong_reference_is_one_line_with_what_is_near(folder, name, message):
    write(folder, "net.py", "class Net: pass\nnumber = 3\n")
    write(folder, "bad.py", "x = 1\ny = x / 0\n")
    write(folder, "wrong.py", "class Net(:\n")
    with pytest.raises(ValueError, match=message) as raised:
        locate.locate("model.name", name, OURS, folder)
    assert "\n" not in str(raised.value)


def test_a_file_and_its_copy_are_one_module_and_a_changed_copy_another(folder, tmp_path):
    write(folder, "shared_parts.py", "class Part: pass")
    write(folder, "whole.py", "from shared_parts import Part\nclass Net(Part): pass")
    copies = tmp_path / "run" / locate.COPIES
    copies.mkdir(parents=True)
    for name in ("shared_parts.py", "whole.py"):
        write(copies, name, (folder / name).read_text())
    net = locate.locate("model.name", "./whole.py:Net", {}, folder)
    part = locate.locate("model.name", "./shared_parts.py:Part", {}, folder)
    assert part in net.__mro__
    assert locate.locate("model.name", "./whole.py:Net", {}, copies) is net
    write(copies, "shared_parts.py", "class Part: changed = True")
    assert locate.locate("model.name", "./whole.py:Net", {}, copies).changed
    assert not hasattr(locate.locate("model.name", "./whole.py:Net", {}, folder), "changed")


def test_a_file_named_as_a_library_leaves_the_library_alone(folder):
    import random

    write(folder, "random.py", "class Net: pass")
    assert locate.locate("model.name", "./random.py:Net", {}, folder).__name__ == "Net"
    assert sys.modules["random"] is random


def test_a_run_has_copies_by_their_names_alone(folder, tmp_path):
    nets = folder / "nets"
    write(nets, "deep.py", "class Net: origin = 'first'")
    copies = tmp_path / "run" / locate.COPIES
    copies.mkdir(parents=True)
    write(copies, "deep.py", (nets / "deep.py").read_text())
    write(nets, "deep.py", "class Net: origin = 'changed since'")
    assert locate.locate("model.name", f"{nets}/deep.py:Net", {}, copies).origin == "first"
    assert locate.locate("model.name", "./nets/deep.py:Net", {}, folder).origin == "changed since"


def test_the_own_files_are_those_of_the_folder_that_are_imported(folder, monkeypatch):
    first = write(folder, "first.py", "import jax\nfrom second import x\nimport own_package.deep\n")
    second = write(folder, "second.py", "x = 1\nimport third\n")
    third = write(folder, "third.py", "import first\n")
    write(folder, "unrelated.py", "")
    deep = write(folder, "own_package/deep.py", "")
    assert locate.own_files(first) == [first, *sorted([second, third, deep])]
    assert locate.source_files("model.name", "lenet5") == {}
    assert list(locate.source_files("model.name", "./second.py:x", folder)) == [
        "second.py",
        "first.py",
        "own_package/deep.py",
        "third.py",
    ]
    monkeypatch.syspath_prepend(folder)
    assert locate.source_files("model.name", "second:x") == {"second (module)": second}
    assert locate.source_files("optimizer.name", "collections:OrderedDict") == {}  # what Python or pip installed
    users = write(folder, "site-packages/by_pip_for_the_user.py", "x = 1")
    monkeypatch.syspath_prepend(users.parent)
    assert locate.source_files("optimizer.name", "by_pip_for_the_user:x") == {}


def test_entry_points_are_listed_with_their_package_and_a_clash_is_refused(folder, monkeypatch):
    information = folder / "cnnjax_lab-1.0.dist-info"
    write(information, "METADATA", "Metadata-Version: 2.1\nName: cnnjax-lab\nVersion: 1.0\n")
    write(information, "entry_points.txt", "[cnnjax.models]\nlabnet = lab.nets:Net\n")
    monkeypatch.syspath_prepend(folder)
    assert locate.installed("cnnjax.models", OURS) == {"labnet": ("lab.nets:Net", "cnnjax-lab")}
    with pytest.raises(
        ValueError, match="'labnet' of cnnjax.models is offered by cnnjax-lab and by cnnjax: remove one"
    ):
        locate.installed("cnnjax.models", {"labnet": dict})
