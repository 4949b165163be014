"""Image retrieval: which images does a network see as most alike?

Every image is a vector, a layer's features (`Run.vectors`), and the nearest vectors are the most similar images:

    index = build_index(run, "test")                    # or a folder of images
    save_index(index, "index.npz")
    similar(index, "shoe.png", topk=5)                  # the query's five nearest, with their distances

The search is exact: all distances are computed, as blocks of one matrix product. For millions of images
`build_index(..., approximate=True)` adds a graph of neighbours (HNSW, by faiss) in which a query looks at few of them.
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
# Of the file's content; raised when its meaning changes.
VERSION = 1
# Files that are decoded, and then sent through the network, at a time.
FILES_AT_ONCE = 1024
# Numbers in memory at a time when the distances of what was found are computed.
_VALUES = 2**26
# Of the graph of neighbours: links of each image, and candidates looked at when building and when searching.
LINKS, BUILD_CANDIDATES, SEARCH_CANDIDATES = 32, 200, 128


@dataclasses.dataclass(frozen=True)
class Index:
    """The features of many images, and where each image is.

    Attributes:
      features: of each image.
      names: of each image: "test[17]", or its file's path within `folder`.
      labels: the class of each image, "" where it is not known.
      split: of the run's data set that the images are; None where they are files.
      folder: of the files; None where the images are a split.
      run: the run's directory.
      weights: a fingerprint of the run's weights.
      layer: whose output the features are; None is the input of the last layer.
      metric: how distances are measured.
      graph: the neighbours of every image, as faiss writes them; None where the search is exact.
      skipped: what is wrong with each file that was left out.
      within: the folder that the run and the images must lie in to be read; None where they may lie anywhere.
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
        """The graph as faiss searches it, read once."""
        return _faiss().deserialize_index(self.graph)


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """One image that was found.

    Attributes:
      position: in the index.
      name: of the image there.
      label: its class, "" where it is not known.
      distance: from the query: 1 - cosine, or Euclidean.
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
    """The features of every image of a split, or of every image in a folder.

    Args:
      run: the network's, or its directory.
      source: train, valid or test of the run's data set; or a folder (one of such a name is ./test), with all folders in
        it. A file's class is the name of the folder it is in, where that is one of the run's classes.
      layer: a layer's path; maps are averaged over their positions. None is the input of the last layer.
      metric: "cosine" or "euclidean".
      approximate: also build the graph that finds most of the nearest without looking at all (needs faiss).
      skip_unreadable: leave out files that cannot be read or do not fit the network.

    Raises:
      FileNotFoundError: no such run, no such folder, or no image in it.
      ImportError: faiss is needed and not installed.
      ValueError: an unknown layer or metric; files that cannot be read, all of them counted and some named.
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
    """Changes when a weight changes by a bit: of the weights that predict, 16 hexadecimal digits."""
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
            skipped_line(bad, len(paths)) + (" (--skip-unreadable leaves them out)" if len(bad) < len(paths) else "")
        )
    for line in summarize(remarks):
        logger.warning(line)
    return good, np.concatenate(features), bad


def skipped_line(skipped: Sequence[str], count: int) -> str:
    """One line on files that cannot be indexed, of `count` in all."""
    return f"{len(skipped)} of {count} files cannot be indexed: {files.listed(skipped)}"


def _fitted(run: "Run", paths: Sequence[Path]) -> Iterator[tuple[Sequence[Path], list[Fitted | str]]]:
    """Some files at a time, each as the network takes it, or what is wrong with it; decoded by threads."""

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
    """Writes an index as one .npz file, whole or not at all.

    Raises:
      ValueError: the file's name does not end in .npz.
      FileNotFoundError: there is no such folder.
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
    """An index from its file.

    Args:
      path: the file.
      trusted: read the run and the images wherever the index says that they are. An index from somebody else could name any
        files: it reads only what lies in its own folder.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, or of another version of cnnjax.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such index: make one with `cnnjax index`")
    if not zipfile.is_zipfile(path):  # NumPy would take it for something else
        raise ValueError(f"{path} is no index, or a damaged one (no .npz): make it anew with `cnnjax index`")
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
        raise ValueError(f"{path} is no index, or a damaged one ({error}): make it anew with `cnnjax index`") from None
    if version != VERSION:
        raise ValueError(
            f"{path} is an index of version {version}, expected {VERSION}: make it anew with `cnnjax index`"
        )
    return index


# --- the search -------------------------------------------------------------------------------------------------


def similar(
    index: Index, image: str | Path | Image.Image | np.ndarray, topk: int | None = None, run: "Run | None" = None
) -> list[Neighbour]:
    """The images of an index that are nearest to one, the nearest first; of ties the earlier goes first.

    Args:
      index: from `build_index` or `load_index`.
      image: a file, a Pillow image, or an array, with an axis of channels or without.
      topk: how many; None is 10, or all of a smaller index.
      run: the run the index was built with; None loads it from where it was.

    Raises:
      FileNotFoundError: the run is no longer where it was, or there is no such file.
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
    """The run an index was built with.

    Raises:
      FileNotFoundError: it is no longer there.
      ValueError: it is not where the index may read.
    """
    from cnnjax.runs import load_run
    from cnnjax.training.run_directory import is_run

    _check_within(index, index.run, "name the run with --workdir, or trust the index with --trusted")
    if not is_run(index.run):
        raise FileNotFoundError(
            f"the run of this index is no longer in {index.run}: say where it is now with --workdir, or `run` in Python"
        )
    return load_run(index.run)


def _check_within(index: Index, path: Path, remedy: str = "trust the index with --trusted") -> None:
    """Refuses to read a path, which may have symbolic links, outside the folder of an index that is not trusted."""
    if index.within is not None and not path.resolve().is_relative_to(index.within):
        raise ValueError(
            f"the index says to read {path}, outside its own folder {index.within}: if that is right, {remedy}"
        )


def check_weights(index: Index, run: "Run") -> None:
    """Raises ValueError if a run's weights are not those that an index was built with."""
    now = fingerprint(run)
    if now != index.weights:
        raise ValueError(
            f"the weights of {run.workdir} are not those the index was built with (fingerprint {index.weights} then, {now} "
            "now): make the index anew with `cnnjax index`"
        )


def nearest(
    queries: Float[np.ndarray, "query feature"],
    features: Float[np.ndarray, "image feature"],
    k: int,
    metric: Metric = "cosine",
    leave_out: Int[np.ndarray, "query"] | None = None,
    block: int = 8192,
) -> tuple[Float[np.ndarray, "query k"], Int[np.ndarray, "query k"]]:
    """The k nearest features of each query, exactly: their distances, ascending, and their positions.

    cosine: d(a, b) = 1 - a.b / (|a| |b|), where vectors of zeros are at 1 from all others and at 0 from each other;   euclidean: d(a, b) = |a - b|.

    The nearest are found by matrix products in float32; the distances are then computed from the vectors themselves. Of
    equal ones the earlier goes first.

    Args:
      queries: as long as the features.
      features: of the images to search.
      k: how many; at most as many as can be found.
      metric: see above.
      leave_out: a position that is passed over for each query: its own, where the queries are among the images.
      block: images, and an eighth of it queries, whose products are in memory at a time.

    Raises:
      ValueError: an unknown metric, vectors of different lengths, or too large a k.
    """
    _check_metric(metric)
    if queries.shape[1:] != features.shape[1:]:
        raise ValueError(f"queries of {queries.shape[1]} features, images of {features.shape[1]}: expected as many")
    most = len(features) - (leave_out is not None)
    if not 1 <= k <= most:
        raise ValueError(f"k={k}: {most} images can be found: choose 1 to {most}")
    points, queries = _points(features, metric), _points(queries, metric)
    # Distances stay what they are, and the products lose fewer digits where all vectors lie to one side.
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
    """Vectors whose Euclidean order is that of the metric: for the cosine of length 1, zeros in a direction of their own."""
    points = np.ascontiguousarray(features, np.float32)
    if metric == "euclidean":
        return points
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.concatenate([points / np.where(lengths > 0, lengths, 1), lengths == 0], 1, dtype=np.float32)


def _distances(squares: Float[np.ndarray, "query k"], metric: Metric) -> Float[np.ndarray, "query k"]:
    """Of squared Euclidean distances between `_points`."""
    return squares / 2 if metric == "cosine" else np.sqrt(squares)


def _nearest_positions(
    queries: Float[np.ndarray, "query length"],
    parts: Sequence[Float[Array, "image length"]],
    leave_out: Int[np.ndarray, "query"],
    k: int,
) -> Int[np.ndarray, "query k"]:
    """The nearest in any part, the best so far merged with each part's."""
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
    """The greatest 2 q.p - |p|^2, which is |q|^2 less the squared distance, and where they are."""
    scores = 2 * jnp.matmul(queries, points.T, precision=jax.lax.Precision.HIGHEST) - (points**2).sum(-1)
    return jax.lax.top_k(jnp.where(jnp.arange(len(points)) == leave_out[:, None], -jnp.inf, scores), k)


def precision_at_k(
    features: Float[np.ndarray, "image feature"],
    labels: Int[np.ndarray, "image"],
    k: int = 10,
    metric: Metric = "cosine",
) -> float:
    """Share of the k nearest that are of the query's class, each image in turn the query to all the others.

    Args:
      features: of each image.
      labels: the class of each.
      k: how many are looked at.
      metric: "cosine" or "euclidean".
    """
    _, found = nearest(features, features, k, metric, leave_out=np.arange(len(features)))
    return float((labels[found] == labels[:, None]).mean())


# --- for millions -----------------------------------------------------------------------------------------------


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ImportError("an approximate index needs faiss: pip install 'cnnjax[index]'") from None
    return faiss


def build_graph(features: Float[np.ndarray, "image feature"], metric: Metric) -> UInt8[np.ndarray, "byte"]:
    """A hierarchical navigable small-world graph (Malkov & Yashunin, 2018), as faiss writes it."""
    faiss = _faiss()
    points = _points(features, metric)
    graph = faiss.IndexHNSWFlat(points.shape[1], LINKS)
    graph.hnsw.efConstruction = BUILD_CANDIDATES
    graph.add(points)
    return faiss.serialize_index(graph)


def nearest_in_graph(
    queries: Float[np.ndarray, "query feature"], graph: Any, k: int, metric: Metric
) -> tuple[Float[np.ndarray, "query k"], Int[np.ndarray, "query k"]]:
    """As `nearest`, looking at few of the images: most of the true neighbours are found.

    Args:
      queries: as long as the features the graph was built of.
      graph: `Index.searched_graph`.
      k: how many.
      metric: that the graph was built for.

    Raises:
      ValueError: the graph leads to fewer.
    """
    graph.hnsw.efSearch = max(SEARCH_CANDIDATES, 2 * k)
    squares, found = graph.search(_points(queries, metric), k)
    if (found < 0).any():
        raise ValueError(f"k={k}: the graph of neighbours leads to fewer images: choose a smaller one")
    return _distances(squares, metric), found


# --- the picture ------------------------------------------------------------------------------------------------


def plot_similar(
    index: Index, image: str | Path | Image.Image | np.ndarray, found: Sequence[Neighbour], run: "Run | None" = None
) -> "Figure":
    """The query and the images that were found, in rows of six, with their distances: a matplotlib figure.

    Args:
      index: that was searched.
      image: the query, as `similar` takes it.
      found: what `similar` returned.
      run: as for `similar`.

    Raises:
      FileNotFoundError: an image is no longer where it was.
      ValueError: it is not where the index may read.
    """
    from cnnjax.analysis import pictures
    from cnnjax.training import run_directory

    run = index_run(index) if run is None else run
    statistics = run_directory.read_statistics(run.described)

    def shown(image: Image.Image | np.ndarray) -> UInt8[np.ndarray, "height width channel"]:
        """A file's image at its own size, as a screen shows it."""
        decoded = transforms.decode(image, "image", run.spatial_axes)
        pixels = transforms.prepare(decoded, transforms.TransformOptions(), *transforms.kind(decoded))
        as_trained = pixels.shape[-1] == run.described["image_shape"][-1]
        return pictures.displayed(pixels[None], statistics if as_trained else None)[0]

    query = read_image(Path(image), run.spatial_axes) if isinstance(image, str | Path) else image
    tiles = [("query", shown(query))]
    if index.folder is not None:
        for neighbour in found:
            path = index.folder / neighbour.name
            _check_within(index, path)
            if not path.is_file():
                raise FileNotFoundError(f"{path} has been moved since the index was built: restore it, or index anew")
            tiles.append((_title(neighbour), shown(read_image(path, run.spatial_axes))))
    else:
        from cnnjax.runs import load_split

        if run.workdir.resolve() == index.run:  # another run was named by the user
            data = run.config.dataset
            for place in filter(None, (is_folder(data.name) and data.name, data.data_dir, data.manual_dir)):
                _check_within(index, Path(place).expanduser())
        images = load_split(run, index.split).images
        chosen = pictures.displayed(images[np.array([neighbour.position for neighbour in found])], statistics)
        tiles += [(_title(neighbour), image) for neighbour, image in zip(found, chosen, strict=True)]
    return pictures.plot_gallery([image for _, image in tiles], [title for title, _ in tiles])


def _title(neighbour: Neighbour) -> str:
    return f"{printable(neighbour.label or Path(neighbour.name).name)}\n{neighbour.distance:z.4f}"
