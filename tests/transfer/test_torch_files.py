"""Files of PyTorch's, read without it, against what PyTorch wrote."""

import collections
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from cnnjax.transfer.torch_files import read_torch_file

needs_torch = pytest.mark.skipif(
    "not __import__('importlib.util').util.find_spec('torch')", reason="PyTorch is not installed: it writes the files"
)
OLD_AND_NEW = pytest.mark.parametrize("as_zip", [True, False])


@needs_torch
@OLD_AND_NEW
def test_tensors_of_every_type_and_layout_are_pytorchs(as_zip, tmp_path):
    import torch

    base = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    saved = collections.OrderedDict(
        kernel=torch.arange(600.0).reshape(5, 4, 6, 5),
        turned=base.t(),
        part=base[2:4, 1::2],
        parameter=torch.nn.Parameter(base),
        half=base.half(),
        bfloat=base.bfloat16(),
        double=base.double(),
        counts=torch.arange(5),
        flags=torch.tensor([True, False]),
        small=torch.arange(3, dtype=torch.int8),
        number=torch.tensor(7),
        one=torch.tensor(1.5),
        nothing=torch.zeros(0, 3),
    )
    torch.save(saved, tmp_path / "saved.pth", _use_new_zipfile_serialization=as_zip)
    read = read_torch_file(tmp_path / "saved.pth")
    assert list(read) == list(saved)
    for name, tensor in saved.items():
        expected = (tensor.detach().float() if tensor.is_floating_point() else tensor).numpy()
        np.testing.assert_array_equal(read[name], expected, strict=True, err_msg=name)


@needs_torch
@OLD_AND_NEW
def test_cut_and_changed_files_are_refused(as_zip, tmp_path):
    import torch

    path = tmp_path / "saved.pth"
    torch.save(torch.nn.Linear(40, 30).state_dict(), path, _use_new_zipfile_serialization=as_zip)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            read_torch_file(path)


def test_code_in_a_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return subprocess.check_call, ([sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')"],)

    path = tmp_path / "evil.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": Evil()}, protocol=2))
    with pytest.raises(ValueError, match="holds more than tensors, which could run code"):
        read_torch_file(path)
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ValueError, match="holds more than tensors, which could run code"):
        read_torch_file(path)
    assert not (tmp_path / "ran").exists()


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    """Of files made by hand, in PyTorch's form: a pickle's instructions, written out, and four floats."""

    def written(shape, strides, offset):
        numbers = ["".join(f"I{number}\n" for number in part) for part in (shape, strides)]
        storage = "(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI4\ntQ"
        tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I{offset}\n({numbers[0]}t({numbers[1]}tI00\nNtR"
        with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
            archive.writestr("w/data.pkl", f"}}Vweight\n{tensor}s.")
            archive.writestr("w/data/0", np.arange(4, dtype="<f4").tobytes())
        return tmp_path / "w.pth"

    np.testing.assert_array_equal(read_torch_file(written((2, 2), (1, 2), 0))["weight"], [[0, 2], [1, 3]])
    for shape, strides, offset in (
        ((2, 2), (2, 1), 1),
        ((5,), (1,), 0),
        ((9,), (0,), 0),
        ((2,), (1,), -1),
        ((2,), (-1,), 1),
    ):
        with pytest.raises(ValueError, match="damaged"):
            read_torch_file(written(shape, strides, offset))
