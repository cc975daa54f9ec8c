"""A copy of a stage's layer in which its meshes can be animated, and the images that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..files.reading import read_bytes
from .mesh_types import MAX_IMAGE_BYTES, MAX_MESH_FILE_BYTES, companion_path
from .usd_reader import package_entry

NEW_ROOT = "Root"  # above meshes that are root prims
COPIED_ENDINGS = (".png", ".jpg", ".jpeg", ".exr")


class StageImages:
    """A layer with all that a stage contains, whose images are named anew.

    Parameters
    ----------
    path : Path
        Of the stage.
    stage : Usd.Stage
    named : callable
        Returns the name of an image's file, from its number and ending.

    Attributes
    ----------
    layer : Sdf.Layer
        With its variants, or flattened if it refers to other layers.
    contents : dict of str to bytes
        Images in the folder of the stage or below, or in its package, by their new names. Others
        stay named as they are.
    paths : list of Path
        Files that were read.
    moved : dict of str to str
        New paths of meshes that were root prims: a skeleton counts only below another prim.
    """

    def __init__(self, path: Path, stage: Any, named: Callable[[int, str], str]):
        from pxr import Sdf, UsdUtils

        self.path, self._named = path, named
        self._source = stage.GetRootLayer()
        self.contents: dict[str, bytes] = {}
        self.paths: list[Path] = []
        self._names: dict[str, str] = {}
        self._bytes_left = MAX_MESH_FILE_BYTES
        if self._source.GetCompositionAssetDependencies():
            self.layer = stage.Flatten()
        else:
            self.layer = Sdf.Layer.CreateAnonymous(".usda")
            self.layer.TransferContent(self._source)
        UsdUtils.ModifyAssetPaths(self.layer, self._new_name)
        self.moved = self._below_a_root()

    def _below_a_root(self) -> dict[str, str]:
        """Move meshes that are root prims below a new one; return their new paths."""
        from pxr import Sdf

        layer = self.layer
        names = [prim.name for prim in layer.rootPrims if prim.typeName == "Mesh"]
        if not names:
            return {}
        root = NEW_ROOT
        while layer.GetPrimAtPath(f"/{root}"):
            root += "_"
        Sdf.PrimSpec(layer, root, Sdf.SpecifierDef, "Xform")
        for name in names:
            Sdf.CopySpec(layer, f"/{name}", layer, f"/{root}/{name}")
            del layer.rootPrims[name]
        if layer.defaultPrim in ("", *names):
            layer.defaultPrim = root
        return {f"/{name}": f"/{root}/{name}" for name in names}

    def _new_name(self, asset: str) -> str:
        """The name of an asset in the copy."""
        from pxr import Sdf

        if asset not in self._names:
            place = Sdf.ComputeAssetPathRelativeToLayer(self._source, asset) if asset else ""
            ending = Path(place.rstrip("]")).suffix.lower()
            content = self._content(place) if ending in COPIED_ENDINGS else None
            self._names[asset] = asset
            if content is not None:
                self._bytes_left -= len(content)
                name = self._named(len(self.contents), ending)
                self.contents[name] = content
                self._names[asset] = f"./{name}"
        return self._names[asset]

    def _content(self, place: str) -> bytes | None:
        """The content of an image; None if it is not there."""
        limit = min(self._bytes_left, MAX_IMAGE_BYTES)
        outer, bracket, inner = place.partition("[")
        file = companion_path(self.path, outer, MAX_MESH_FILE_BYTES if bracket else limit)
        if file is None:
            return None
        if bracket:
            return package_entry(file, inner.rstrip("]"), limit)
        self.paths.append(file)
        return read_bytes(file, "an image", "copy all its files together", limit)
