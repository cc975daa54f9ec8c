"""Opening a stage of unknown origin: its layers lie in its folder, and it stays small."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.reading import printable, quiet_stderr
from .mesh_types import MAX_MESH_FILE_BYTES, companion_path

USD_ENDINGS = (".usd", ".usda", ".usdc", ".usdz")
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
    from pxr import Sdf, Tf, Usd

    with quiet_stderr():
        try:
            root = Sdf.Layer.FindOrOpen(str(path.resolve()))
            if root is None:
                raise ValueError("USD cannot read it")
            root.Reload(True)  # a layer that is still open elsewhere may be an older one
            layers = _Layers(path, root)
            if layers.count(root.identifier, "/") > MAX_STAGE_PRIMS:
                raise ValueError(f"more than {MAX_STAGE_PRIMS} prims")
            return Usd.Stage.Open(root, Usd.Stage.LoadAll)
        except Tf.ErrorException as error:
            raise ValueError(str(error).splitlines()[-1].strip() or "USD refuses it") from None


class _Layers:
    """All layers that a stage is composed of, and how many prims they become."""

    def __init__(self, path: Path, root: Any):
        self.path = path
        self.names: dict[str, list[str]] = {}  # paths of all prims, in order, by the layer
        self.arcs: dict[str, dict[str, list[tuple[str, str]]]] = {}  # by the layer and the prim
        self._counts: dict[tuple[str, str], int] = {}
        self._bytes_left = MAX_MESH_FILE_BYTES
        todo = [root]
        while todo:
            layer = todo.pop()
            if layer.identifier not in self.names:
                if len(self.names) >= MAX_STAGE_LAYERS:
                    raise ValueError(f"more than {MAX_STAGE_LAYERS} layers")
                todo += self._read(layer)

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
        other = Sdf.Layer.FindOrOpen(place)
        if other is None:
            raise ValueError(f"USD cannot read {printable(asset, 60)}")
        return other

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
