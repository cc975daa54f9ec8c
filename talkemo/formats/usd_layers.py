"""Opening a stage of unknown origin: its layers lie in its folder, and it stays small.

USD's reader of binary layers ends the process for some malformed ones. So a process of its own reads
each of these first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from bisect import bisect_left
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.reading import open_file, printable, quiet_stderr
from .mesh_types import MAX_MESH_FILE_BYTES, companion_path

USD_ENDINGS = (".usd", ".usda", ".usdc", ".usdz")
TEXT_MARK = b"#usda"  # at the beginning of a layer as text
MAX_PROBE_BYTES = 1 << 32  # memory of the process that reads a layer first, and what it writes
MAX_PROBE_S = 120.0
# Reads a layer, or the stage that it is the root of, with the calls that talkemo makes.
PROBE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    import resource
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (int(sys.argv[5]), int(sys.argv[5])))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, OSError, ValueError):
    pass
from pxr import Sdf, Usd
layer = Sdf.Layer.FindOrOpen(sys.argv[3])
if sys.argv[2] == "layer":
    layer.GetCompositionAssetDependencies()
    def visit(path):
        spec = layer.GetPrimAtPath(path) if path.IsPrimPath() else None
        if spec:
            spec.HasInfo("clips"), spec.inheritPathList, spec.specializesList
            for items in (spec.referenceList, spec.payloadList):
                [(item.assetPath, item.primPath) for item in items.GetAddedOrExplicitItems()]
    layer.Traverse(Sdf.Path.absoluteRootPath, visit)
    sys.exit(0 if layer.Export(sys.argv[4]) else 1)
stage = Usd.Stage.Open(layer, Usd.Stage.LoadAll)
for prim in Usd.PrimRange.Stage(stage, Usd.TraverseInstanceProxies()):
    for attribute in prim.GetAttributes():
        attribute.Get()
    for relationship in prim.GetRelationships():
        relationship.GetTargets()
"""
MAX_STAGE_PRIMS = 100_000  # once references are followed
MAX_STAGE_LAYERS = 1000
LAST_CHARACTER = "\U0010ffff"


def open_stage(path: Path) -> Any:
    """Return the stage of a file, once its layers are checked.

    Raises
    ------
    InputError
        A layer is not in the file's folder or below.
    ValueError
        The file is malformed, or too large.
    """
    from pxr import Tf, Usd

    with quiet_stderr():
        try:
            layers = _Layers(path)
            root = layers.opened(str(path.resolve()), path)
            if root is None:
                raise ValueError("USD cannot read it")
            root.Reload(True)  # a layer that is still open elsewhere may be an older one
            layers.read(root)
            if layers.count(root.identifier, "/") > MAX_STAGE_PRIMS:
                raise ValueError(f"more than {MAX_STAGE_PRIMS} prims")
            if layers.binary:
                _probe("stage", root.identifier, tuple(layers.binary))
            return Usd.Stage.Open(root, Usd.Stage.LoadAll)
        except Tf.ErrorException as error:
            raise ValueError(str(error).splitlines()[-1].strip() or "USD refuses it") from None


@lru_cache(maxsize=MAX_STAGE_LAYERS)
def _probe(what: str, identifier: str, versions: tuple[tuple[int, int], ...]) -> None:
    """Raise ValueError if a process of its own cannot read all of a layer, or of a stage.

    `versions` are sizes and times of the files: what was read once is not read again.
    """
    with tempfile.TemporaryDirectory(prefix="talkemo-") as folder:
        copy = str(Path(folder) / "copy.usdc")
        arguments = json.dumps(sys.path), what, identifier, copy, str(MAX_PROBE_BYTES)
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", PROBE, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=MAX_PROBE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ValueError("USD does not get to its end") from None
    if done.returncode:
        raise ValueError("USD cannot read it")


class _Layers:
    """All layers that a stage is composed of, and how many prims they become."""

    def __init__(self, path: Path):
        self.path = path
        self.binary: list[tuple[int, int]] = []  # sizes and times of the files that are not text
        self.names: dict[str, list[str]] = {}  # paths of all prims, in order, by the layer
        self.arcs: dict[str, dict[str, list[tuple[str, str]]]] = {}  # by the layer and the prim
        self._counts: dict[tuple[str, str], int] = {}
        self._bytes_left = MAX_MESH_FILE_BYTES

    def read(self, root: Any) -> None:
        """Note all layers, from the root on. Raises ValueError if there are too many."""
        todo = [root]
        while todo:
            layer = todo.pop()
            if layer.identifier not in self.names:
                if len(self.names) >= MAX_STAGE_LAYERS:
                    raise ValueError(f"more than {MAX_STAGE_LAYERS} layers")
                todo += self._read(layer)

    def opened(self, identifier: str, path: Path) -> Any:
        """Return a layer in a file, once another process has read it if it is not text."""
        from pxr import Sdf

        with open_file(path, "a USD file", "export it again") as file:
            is_text = file.read(len(TEXT_MARK)) == TEXT_MARK
        if not is_text:
            status = path.stat()
            version = status.st_size, status.st_mtime_ns
            self.binary.append(version)
            _probe("layer", identifier, (version,))
        layer = Sdf.Layer.FindOrOpen(identifier)
        if layer is None:
            raise ValueError("USD cannot read it")
        return layer

    def _read(self, layer: Any) -> list[Any]:
        """Note the prims of a layer; return the layers that it names, without their own arcs."""
        from pxr import Sdf

        prims: list[str] = []
        arcs: dict[str, list[tuple[str, str]]] = {}
        named: dict[str, Any] = {}

        def target(asset: str, prim: str) -> tuple[str, str]:
            other = layer
            if asset:
                if asset not in named:
                    named[asset] = self._opened(layer, asset)
                other = named[asset]
            default = f"/{other.defaultPrim}" if other.defaultPrim else "/"
            return other.identifier, str(prim) or default

        def visit(path: Any) -> None:
            spec = layer.GetPrimAtPath(path) if path.IsPrimPath() else None
            if not spec:
                return
            prims.append(str(path))
            if len(prims) > MAX_STAGE_PRIMS:
                raise ValueError(f"more than {MAX_STAGE_PRIMS} prims")
            if spec.HasInfo("clips"):
                raise ValueError("it has value clips, which are not read")
            found = [
                target(item.assetPath, item.primPath)
                for items in (spec.referenceList, spec.payloadList)
                for item in items.GetAddedOrExplicitItems()
            ]
            found += [
                (layer.identifier, str(item))
                for items in (spec.inheritPathList, spec.specializesList)
                for item in items.GetAddedOrExplicitItems()
            ]
            if found:
                arcs[str(path)] = found

        layer.Traverse(Sdf.Path.absoluteRootPath, visit)
        subs = [target(asset, "/") for asset in layer.subLayerPaths]
        if subs:
            arcs["/"] = subs
        for asset in layer.GetCompositionAssetDependencies():  # also those of variants
            target(asset, "/")
        self.names[layer.identifier] = sorted(prims)
        self.arcs[layer.identifier] = arcs
        return list(named.values())

    def _opened(self, layer: Any, asset: str) -> Any:
        """The layer that another one names, if it lies in the file's folder or in its package."""
        from pxr import Ar, Sdf

        place = Sdf.ComputeAssetPathRelativeToLayer(layer, asset)
        outer, inner = Ar.SplitPackageRelativePathOuter(place)
        file = companion_path(self.path, outer, self._bytes_left)
        if file is None or not (inner or outer).lower().endswith(USD_ENDINGS):
            raise InputError(
                f"{printable(self.path)}: it needs the file {printable(asset, 60)}, which is not "
                "beside it",
                "copy all its files together, or export it as one .usdz",
            )
        self._bytes_left -= file.stat().st_size
        return self.opened(place, file)

    def count(self, layer: str, prim: str) -> int:
        """Return how many prims those of a layer, from one on, become at most."""
        key = layer, prim
        if key in self._counts:
            return self._counts[key]
        self._counts[key] = 0  # of one that contains itself, which USD refuses
        names = self.names[layer]
        first = 0 if prim == "/" else bisect_left(names, prim)
        last = len(names) if prim == "/" else bisect_left(names, prim + LAST_CHARACTER)
        total = last - first
        arcs = self.arcs[layer]
        for name in (*names[first:last], *(["/"] if prim == "/" else [])):
            for target in arcs.get(name, ()):
                total += self.count(*target)
                if total > MAX_STAGE_PRIMS:
                    return total
        self._counts[key] = total
        return total
