"""Image retrieval: finding the most similar images by the features of a network.

Every image is represented by a vector, the features of a layer (`Run.vectors`), and the nearest vectors are the most similar images:

    index = build_index(run, "test")                    # or a folder of images
    save_index(index, "index.npz")
    similar(index, "shoe.png", topk=5)                  # the five nearest images, with their distances

The search is exact: all distances are computed, in blocks of a matrix product. For millions of images
`build_index(..., approximate=True)` adds a graph of neighbours (HNSW, by faiss), with which a query compares only a few images.
"""

import dataclasses
import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from cnnjax.core import files
from cnnjax.core.options import unknown
from cnnjax.core.paths import path_name
from cnnjax.core.terminal import printable
from cnnjax.data import transforms
from cnnjax.data.catalogue import is_folder
from cnnjax.data.displayed import displayed
from cnnjax.data.fitting import Fitted, summarize
from cnnjax.data.folders import find_images
from cnnjax.data.slices import SPLITS
from cnnjax.data.subsets import are_classes
from cnnjax.data.transforms import read_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnnjax.runs import Run

logger = logging.getLogger(__name__)

Metric = Literal["cosine", "euclidean"]
# The version of the file format.
VERSION = 1
# Number of files that are decoded and passed through the network at a time.
FILES_AT_ONCE = 1024
# Maximum number of values in memory while the distances of the results are computed.
_VALUES = 2**26
# Settings of the graph of neighbours: links per image, and candidates considered in building and in searching.
LINKS, BUILD_CANDIDATES, SEARCH_CANDIDATES = 32, 200, 128


@dataclasses.dataclass(frozen=True)
class Index:
    """The features and locations of indexed images.

    Attributes:
      features: the features of each image.
      names: the name of each image: "test[17]", or the path of its file in `folder`.
      labels: the class of each image, or "" if unknown.
      split: the split of the run's data set that the images are from; None for files.
      folder: the folder of the files; None for a split.
      run: the run directory.
      weights: a fingerprint of the run's weights.
      layer: the layer whose output is used; None is the input of the last layer.
      metric: the distance metric.
      graph: the graph of neighbours, serialised by faiss; None for exact search.
      skipped: the error messages of skipped files.
      within: the folder outside which neither the run nor images are read; None for no restriction.
    """

    features: Float[np.ndarray, "image feature"]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    split: str | None
    folder: Path | None
    run: Path
    weights: str
    layer: str | None
    metric: Metric
    graph: UInt8[np.ndarray, "byte"] | None = dataclasses.field(default=None, repr=False)
    skipped: tuple[str, ...] = ()
    within: Path | None = None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def searched_graph(self) -> Any:
        """The deserialised faiss graph."""
        return _faiss().deserialize_index(self.graph)


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """An image found by a search.

    Attributes:
      position: the position in the index.
      name: the name of the image.
      label: the class of the image, or "" if unknown.
      distance: the distance from the query: 1 - cosine, or Euclidean.
    """

    position: int
    name: str
    label: str
    distance: float


# --- the index --------------------------------------------------------------------------------------------------


def build_index(
    run: "Run | str | Path",
    source: str | Path,
    layer: str | None = None,
    metric: Metric = "cosine",
    approximate: bool = False,
    skip_unreadable: bool = False,
) -> Index:
    """Builds an index of the images of a split or of a folder.

    Args:
      run: the run, or its directory.
      source: a split of the run's data set (train, valid or test), or a folder including its subfolders; a folder with the name of a
        split is written as ./test. The class of a file is the name of its folder, if that is one of the run's classes.
      layer: the path of the layer whose output is used, with feature maps averaged over positions; None is the input of the last
        layer.
      metric: the distance metric, "cosine" or "euclidean".
      approximate: whether to build the graph for approximate search (needs faiss).
      skip_unreadable: whether to skip files that cannot be read or do not fit the network.

    Raises:
      FileNotFoundError: the run or folder does not exist, or the folder has no images.
      ImportError: faiss is needed but not installed.
      ValueError: the layer or metric is unknown, or files cannot be read; the message has their number and names some.
    """
    from cnnjax import runs

    _check_metric(metric)
    if approximate:
        _faiss()
    if not isinstance(run, runs.Run):
        run = runs.load_run(run)
    common = {"run": run.workdir.resolve(), "weights": fingerprint(run), "layer": layer, "metric": metric}
    if layer is not None:
        run.check_layer(layer)
    if source in SPLITS:
        split = runs.load_split(run, source)
        features = run.vectors(split.images, layer)
        names = tuple(f"{source}[{position}]" for position in range(len(split)))
        classes = are_classes(split.labels)
        labels = tuple(run.label_names[label] for label in split.labels) if classes else ("",) * len(split)
        index = Index(features, names, labels, source, None, **common)
    else:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"{source}: expected a folder of images, or a split: train, valid or test")
        paths, features, skipped = _features_of_files(run, find_images([folder]), layer, skip_unreadable)
        names = tuple(path.relative_to(folder).as_posix() for path in paths)
        labels = tuple(path.parent.name if path.parent.name in run.label_names else "" for path in paths)
        index = Index(features, names, labels, None, folder.resolve(), **common, skipped=tuple(skipped))
    return dataclasses.replace(index, graph=build_graph(index.features, metric)) if approximate else index


def fingerprint(run: "Run") -> str:
    """A fingerprint of the weights used for prediction: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(run.selected.variables):
        array = np.asarray(leaf)
        digest.update(f"{path_name(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _check_metric(metric: str) -> None:
    if metric not in get_args(Metric):
        raise ValueError(unknown("metric", metric, get_args(Metric)))


def _features_of_files(
    run: "Run", paths: Sequence[Path], layer: str | None, skip_unreadable: bool
) -> tuple[list[Path], Float[np.ndarray, "image feature"], list[str]]:
    good, features, bad, remarks = [], [], [], []
    for chunk, fitted in _fitted(run, paths):
        read = [(path, one) for path, one in zip(chunk, fitted, strict=True) if not isinstance(one, str)]
        bad += [message for message in fitted if isinstance(message, str)]
        remarks += [(str(path), one.remarks) for path, one in read]
        if read and (skip_unreadable or not bad):
            good += [path for path, _ in read]
            features.append(run.vectors(np.stack([one.pixels for _, one in read]), layer))
    if bad and not (skip_unreadable and good):
        raise ValueError(
            skipped_line(bad, len(paths)) + (" (--skip-unreadable skips them)" if len(bad) < len(paths) else "")
        )
    for line in summarize(remarks):
        logger.warning(line)
    return good, np.concatenate(features), bad


def skipped_line(skipped: Sequence[str], count: int) -> str:
    """A message about files that cannot be indexed, out of `count`."""
    return f"{len(skipped)} of {count} files cannot be indexed: {files.listed(skipped)}"


def _fitted(run: "Run", paths: Sequence[Path]) -> Iterator[tuple[Sequence[Path], list[Fitted | str]]]:
    """Decodes files with threads, in chunks: the prepared image of each file, or an error message."""

    def fit(path: Path) -> Fitted | str:
        try:
            return run.fit(read_image(path, run.spatial_axes), str(path))
        except (ValueError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), FILES_AT_ONCE):
            chunk = paths[start : start + FILES_AT_ONCE]
            yield chunk, list(pool.map(fit, chunk))


def save_index(index: Index, path: str | Path) -> None:
    """Writes an index atomically as an .npz file.

    Raises:
      ValueError: the name does not end in .npz.
      FileNotFoundError: the folder does not exist.
    """
    path = Path(path)
    files.check_writable(path, ".npz")
    about = {
        "version": VERSION,
        **{
            name: getattr(index, name) for name in ("names", "labels", "split", "weights", "layer", "metric", "skipped")
        },
        "folder": None if index.folder is None else str(index.folder),
        "run": str(index.run),
    }
    arrays = {"features": index.features, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    if index.graph is not None:
        arrays["graph"] = index.graph
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    files.write_atomically(path, buffer.getvalue())


def load_index(path: str | Path, trusted: bool = False) -> Index:
    """Loads an index from its file.

    Args:
      path: the path of the file.
      trusted: whether to read the run and the images from any path that the index names. By default only files in the index's own
        folder are read, since an index from somebody else could name any file.

    Raises:
      FileNotFoundError: the file does not exist.
      ValueError: the file is damaged, or was written by another version of cnnjax.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: this index does not exist: make one with `cnnjax index`")
    if not zipfile.is_zipfile(path):  # NumPy would take it for another format
        raise ValueError(f"{path} is not an index, or is damaged (not .npz): make it again with `cnnjax index`")
    try:
        with open(path, "rb") as file, np.load(file) as stored:
            about = json.loads(stored["about"].tobytes())
            features = stored["features"]
            graph = stored.get("graph")
        version = about.pop("version")
        if version == VERSION:
            folder = None if about["folder"] is None else Path(about.pop("folder"))
            given = about | {"folder": folder, "run": Path(about["run"])}
            given |= {name: tuple(about.get(name, ())) for name in ("names", "labels", "skipped")}
            within = None if trusted else path.parent.resolve()
            index = Index(features=features, graph=graph, within=within, **given)
            if not len(index.names) == len(index.labels) == len(features) or features.ndim != 2:
                raise ValueError("its parts are of different lengths")
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not an index, or is damaged ({error}): make it again with `cnnjax index`"
        ) from None
    if version != VERSION:
        raise ValueError(
            f"{path} is an index of version {version}, expected {VERSION}: make it again with `cnnjax index`"
        )
    return index


# --- the search -------------------------------------------------------------------------------------------------


def similar(
    index: Index, image: str | Path | Image.Image | np.ndarray, topk: int | None = None, run: "Run | None" = None
) -> list[Neighbour]:
    """The images of an index that are most similar to a query, the nearest first; ties are ordered by position.

    Args:
      index: an index from `build_index` or `load_index`.
      image: the query: a file, a Pillow image, or an array with or without a channel axis.
      topk: the number of images; None is 10, or all images of a smaller index.
      run: the run with which the index was built; None loads it from its directory.

    Raises:
      FileNotFoundError: the run is no longer in its directory, or the file does not exist.
      ValueError: the run's weights have changed, the image does not fit the network, or topk is out of range.
    """
    topk = min(10, len(index)) if topk is None else topk
    if not 1 <= topk <= len(index):
        raise ValueError(f"topk={topk}: the index has {len(index)} images: choose 1 to {len(index)}")
    run = index_run(index) if run is None else run
    check_weights(index, run)
    if isinstance(image, str | Path):
        if not Path(image).is_file():
            raise FileNotFoundError(f"{image} does not exist")
        pixels = run.prepare(read_image(Path(image), run.spatial_axes), str(image))
    else:
        pixels = run.prepare(image)
    query = run.vectors(pixels[None], index.layer)
    if index.graph is None:
        distances, positions = nearest(query, index.features, topk, index.metric)
    else:
        distances, positions = nearest_in_graph(query, index.searched_graph, topk, index.metric)
    return [
        Neighbour(int(position), index.names[position], index.labels[position], float(distance))
        for distance, position in zip(distances[0], positions[0], strict=True)
    ]


def index_run(index: Index) -> "Run":
    """Loads the run with which an index was built.

    Raises:
      FileNotFoundError: the run is no longer in its directory.
      ValueError: the directory is outside the folder that the index may read.
    """
    from cnnjax.runs import load_run
    from cnnjax.training.run_directory import is_run

    _check_within(index, index.run, "name the run with --workdir, or trust the index with --trusted")
    if not is_run(index.run):
        raise FileNotFoundError(
            f"the run of this index is no longer in {index.run}: pass its directory with --workdir, or `run` in Python"
        )
    return load_run(index.run)


def _check_within(index: Index, path: Path, remedy: str = "trust the index with --trusted") -> None:
    """Raises ValueError for a path, symbolic links resolved, outside the folder of an index that is not trusted."""
    if index.within is not None and not path.resolve().is_relative_to(index.within):
        raise ValueError(
            f"the index refers to {path}, outside its own folder {index.within}: if that is right, {remedy}"
        )


def check_weights(index: Index, run: "Run") -> None:
    """Raises ValueError if a run's weights are not those that an index was built with."""
    now = fingerprint(run)
    if now != index.weights:
        raise ValueError(
            f"the weights of {run.workdir} are not those with which the index was built (fingerprint {index.weights} then, {now} "
            "now): make the index again with `cnnjax index`"
        )


def nearest(
    queries: Float[np.ndarray, "query feature"],
    features: Float[np.ndarray, "image feature"],
    k: int,
    metric: Metric = "cosine",
    leave_out: Int[np.ndarray, "query"] | None = None,
    block: int = 8192,
) -> tuple[Float[np.ndarray, "query k"], Int[np.ndarray, "query k"]]:
    """The exact k nearest features of each query: their ascending distances, and their positions.

    cosine: d(a, b) = 1 - a.b / (|a| |b|); vectors of zeros have distance 1 from all others and 0 from each other.
    euclidean: d(a, b) = |a - b|.

    The nearest are found by matrix products in float32; then the distances are computed from the vectors. Ties are ordered by
    position.

    Args:
      queries: the feature vectors of the queries.
      features: the feature vectors of the images to search.
      k: the number of neighbours.
      metric: the distance metric.
      leave_out: a position that is skipped for each query, such as its own if the queries are among the images.
      block: the number of images, and eight times the number of queries, whose products are in memory at a time.

    Raises:
      ValueError: the metric is unknown, the vectors have different lengths, or k is too large.
    """
    _check_metric(metric)
    if queries.shape[1:] != features.shape[1:]:
        raise ValueError(
            f"queries have {queries.shape[1]} features, images {features.shape[1]}: expected equal numbers"
        )
    most = len(features) - (leave_out is not None)
    if not 1 <= k <= most:
        raise ValueError(f"k={k}: {most} images can be found: choose 1 to {most}")
    points, queries = _points(features, metric), _points(queries, metric)
    # Centring does not change distances, and the products lose fewer digits if all vectors point in similar directions.
    center = points.mean(0)
    parts = [jnp.asarray(points[start : start + block] - center) for start in range(0, len(points), block)]
    leave_out = np.full(len(queries), -1, np.int32) if leave_out is None else leave_out.astype(np.int32)
    rows = max(min(block // 8, _VALUES // (k * points.shape[1])), 1)
    squares, positions = np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int32)
    for start in range(0, len(queries), rows):
        some = slice(start, start + rows)
        found = _nearest_positions(queries[some] - center, parts, leave_out[some], k)
        exact = ((queries[some, None] - points[found]) ** 2).sum(-1)
        order = np.lexsort((found, exact))
        squares[some], positions[some] = (np.take_along_axis(part, order, 1) for part in (exact, found))
    return _distances(squares, metric), positions


def _points(features: Float[np.ndarray, "image feature"], metric: Metric) -> Float[np.ndarray, "image length"]:
    """Vectors whose order by Euclidean distance is that of the metric: for the cosine unit vectors, with an extra axis for zeros."""
    points = np.ascontiguousarray(features, np.float32)
    if metric == "euclidean":
        return points
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.concatenate([points / np.where(lengths > 0, lengths, 1), lengths == 0], 1, dtype=np.float32)


def _distances(squares: Float[np.ndarray, "query k"], metric: Metric) -> Float[np.ndarray, "query k"]:
    """The distances of the metric from squared Euclidean distances between `_points`."""
    return squares / 2 if metric == "cosine" else np.sqrt(squares)


def _nearest_positions(
    queries: Float[np.ndarray, "query length"],
    parts: Sequence[Float[Array, "image length"]],
    leave_out: Int[np.ndarray, "query"],
    k: int,
) -> Int[np.ndarray, "query k"]:
    """The positions of the nearest vectors over all parts, merged part by part."""
    scores, positions, start = np.zeros((len(queries), 0)), np.zeros((len(queries), 0), np.int32), 0
    for part in parts:
        score, found = _nearest_in_part(queries, part, leave_out - start, min(k, len(part)))
        scores = np.concatenate([scores, np.asarray(score)], 1)
        positions = np.concatenate([positions, np.asarray(found) + start], 1)
        order = np.argsort(-scores, 1, kind="stable")[:, :k]
        scores, positions = np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)
        start += len(part)
    return positions


@partial(jax.jit, static_argnames="k")
def _nearest_in_part(
    queries: Float[Array, "query length"], points: Float[Array, "image length"], leave_out: Int[Array, "query"], k: int
) -> tuple[Float[Array, "query k"], Int[Array, "query k"]]:
    """The greatest values of 2 q.p - |p|^2, which is |q|^2 minus the squared distance, and their positions."""
    scores = 2 * jnp.matmul(queries, points.T, precision=jax.lax.Precision.HIGHEST) - (points**2).sum(-1)
    return jax.lax.top_k(jnp.where(jnp.arange(len(points)) == leave_out[:, None], -jnp.inf, scores), k)


def precision_at_k(
    features: Float[np.ndarray, "image feature"],
    labels: Int[np.ndarray, "image"],
    k: int = 10,
    metric: Metric = "cosine",
) -> float:
    """The share of the k nearest images that have the query's class, with each image as the query for all others.

    Args:
      features: the features of each image.
      labels: the class of each image.
      k: the number of neighbours.
      metric: the distance metric, "cosine" or "euclidean".
    """
    _, found = nearest(features, features, k, metric, leave_out=np.arange(len(features)))
    return float((labels[found] == labels[:, None]).mean())


# --- approximate search -----------------------------------------------------------------------------------------


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ImportError("an approximate index needs faiss: pip install 'cnnjax[index]'") from None
    return faiss


def build_graph(features: Float[np.ndarray, "image feature"], metric: Metric) -> UInt8[np.ndarray, "byte"]:
    """Builds a hierarchical navigable small-world graph (Malkov & Yashunin, 2018), serialised by faiss."""
    faiss = _faiss()
    points = _points(features, metric)
    graph = faiss.IndexHNSWFlat(points.shape[1], LINKS)
    graph.hnsw.efConstruction = BUILD_CANDIDATES
    graph.add(points)
    return faiss.serialize_index(graph)


def nearest_in_graph(
    queries: Float[np.ndarray, "query feature"], graph: Any, k: int, metric: Metric
) -> tuple[Float[np.ndarray, "query k"], Int[np.ndarray, "query k"]]:
    """Approximates `nearest` by comparing only a few images; most of the true neighbours are found.

    Args:
      queries: the feature vectors of the queries.
      graph: the graph, `Index.searched_graph`.
      k: the number of neighbours.
      metric: the metric for which the graph was built.

    Raises:
      ValueError: the graph leads to fewer than k images.
    """
    graph.hnsw.efSearch = max(SEARCH_CANDIDATES, 2 * k)
    squares, found = graph.search(_points(queries, metric), k)
    if (found < 0).any():
        raise ValueError(f"k={k}: the graph of neighbours leads to fewer images: choose a smaller k")
    return _distances(squares, metric), found


# --- the picture ------------------------------------------------------------------------------------------------


def plot_similar(
    index: Index, image: str | Path | Image.Image | np.ndarray, found: Sequence[Neighbour], run: "Run | None" = None
) -> "Figure":
    """Plots the query and the images found, in rows of six, with their distances.

    Args:
      index: the index that was searched.
      image: the query, as for `similar`.
      found: the result of `similar`.
      run: the run, as for `similar`.

    Raises:
      FileNotFoundError: an image has been moved.
      ValueError: an image is outside the folder that the index may read.
    """
    from cnnjax.analysis import pictures
    from cnnjax.training import run_directory

    run = index_run(index) if run is None else run
    statistics = run_directory.read_statistics(run.described)

    def shown(image: Image.Image | np.ndarray) -> UInt8[np.ndarray, "height width channel"]:
        """An image at its original size, for display."""
        decoded = transforms.decode(image, "image", run.spatial_axes)
        pixels = transforms.prepare(decoded, transforms.TransformOptions(), *transforms.kind(decoded))
        as_trained = pixels.shape[-1] == run.described["image_shape"][-1]
        return displayed(pixels[None], statistics if as_trained else None)[0]

    query = read_image(Path(image), run.spatial_axes) if isinstance(image, str | Path) else image
    tiles = [("query", shown(query))]
    if index.folder is not None:
        for neighbour in found:
            path = index.folder / neighbour.name
            _check_within(index, path)
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} has been moved since the index was built: restore it, or make the index again"
                )
            tiles.append((_title(neighbour), shown(read_image(path, run.spatial_axes))))
    else:
        from cnnjax.runs import load_split

        if run.workdir.resolve() == index.run:  # otherwise the user has named another run
            data = run.config.dataset
            for place in filter(None, (is_folder(data.name) and data.name, data.data_dir, data.manual_dir)):
                _check_within(index, Path(place).expanduser())
        images = load_split(run, index.split).images
        chosen = displayed(images[np.array([neighbour.position for neighbour in found])], statistics)
        tiles += [(_title(neighbour), image) for neighbour, image in zip(found, chosen, strict=True)]
    return pictures.plot_gallery([image for _, image in tiles], [title for title, _ in tiles])


def _title(neighbour: Neighbour) -> str:
    return f"{printable(neighbour.label or Path(neighbour.name).name)}\n{neighbour.distance:z.4f}"
