"""What all USD files have in common: the library, names, arrays, and packages (usdz)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TalkemoError
from ..extras import install_command
from ..files.writing import check_output
from .animation import FileWriter, Header

ROOT = "/face"  # the prim that holds all others
IMAGE_ENDINGS = {"image/png": ".png", "image/jpeg": ".jpg"}
ADDED_PART = "talkemo:added_part"  # custom data of a mesh that is no part of the user's
PACKAGE_ENDING = ".usdz"
ROOT_IN_PACKAGE = "model.usdc"  # the first file of a package is the stage


def check_usd() -> None:
    """Raise TalkemoError unless usd-core is installed."""
    try:
        from pxr import Usd  # noqa: F401
    except ImportError:
        raise TalkemoError("USD is not installed", install_command("usd")) from None


class StageFile:
    """A new stage, which becomes a file: a usda or usdc, or the first file of a package.

    Parameters
    ----------
    path : Path
        Where the file is written; its ending tells its kind.

    Attributes
    ----------
    stage : Usd.Stage
    """

    def __init__(self, path: Path):
        from pxr import Usd

        self.path = path
        self.is_package = path.suffix.lower() == PACKAGE_ENDING
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        root = path
        if self.is_package:
            self._folder = tempfile.TemporaryDirectory(prefix="talkemo-")
            root = Path(self._folder.name) / ROOT_IN_PACKAGE
        self.stage: Any = Usd.Stage.CreateNew(str(root))

    def save(self, final: Path, images: Iterable[tuple[str, bytes]] = ()) -> None:
        """Write the file. Raises TalkemoError, naming the final path, if that is impossible.

        `images` are the names and contents of the images in a package.
        """
        from pxr import Tf

        try:
            saved = self.stage.GetRootLayer().Save()
            if saved and self._folder is not None:
                saved = self._pack(Path(self._folder.name), images)
        except Tf.ErrorException:
            saved = False
        if not saved:
            raise TalkemoError(
                f"{final}: USD cannot write this file", "is there space left on the disk?"
            )

    def _pack(self, folder: Path, images: Iterable[tuple[str, bytes]]) -> bool:
        """Put the stage and its images into the package; return whether that worked."""
        from pxr import Sdf

        names = [ROOT_IN_PACKAGE]
        for name, content in images:
            (folder / name).write_bytes(content)
            names.append(name)
        with Sdf.ZipFileWriter.CreateNew(str(self.path)) as package:
            return all(package.AddFile(str(folder / name), name) for name in names)

    def close(self) -> None:
        """Release the stage; its prims and attributes must be released before."""
        self.stage = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class StageWriter(FileWriter):
    """Base class of a writer of a stage with images.

    They lie beside a usda or usdc, as NAME_0.png and so on, and in a usdz.
    """

    def image_name(self, number: int, ending: str) -> str:
        """Return the name of an image's file."""
        stem = "image" if self.path.suffix.lower() == PACKAGE_ENDING else self.path.stem
        return f"{stem}_{number}{ending}"

    def part_image(self, texture: bytes | None, images: dict[str, bytes]) -> str | None:
        """Return the name of the image of an added part, which is put among the images.

        None where the part has none, and beside a usda or usdc: there its points have colours.
        """
        if texture is None or self.path.suffix.lower() != PACKAGE_ENDING:
            return None
        name = self.image_name(len(images), ".png")
        images[name] = texture
        return name

    def save(self, file: StageFile, images: dict[str, bytes], inputs: Iterable[Path] = ()) -> None:
        """Write a stage, and its images by name; none of them may replace one of the inputs."""
        if not file.is_package:
            for name, content in images.items():
                image = self.path.with_name(name)
                check_output(image, tuple(IMAGE_ENDINGS.values()), *inputs)
                self.companion(image).path.write_bytes(content)
        file.save(self.path, images.items())


def define_root(stage: Any, header: Header, kind: Any, up_axis: str = "Y") -> None:
    """Define the root prim, and what a stage says of its time, unit and axes."""
    from pxr import UsdGeom

    UsdGeom.SetStageUpAxis(stage, up_axis)
    UsdGeom.SetStageMetersPerUnit(stage, header.unit.metres)
    stage.SetTimeCodesPerSecond(header.fps)
    stage.SetFramesPerSecond(header.fps)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(max(header.frames - 1, 0))
    stage.GetRootLayer().customLayerData = {"talkemo": json.dumps(header.meta)}
    stage.SetDefaultPrim(kind.Define(stage, ROOT).GetPrim())


class FreeNames:
    """Names of prims that are valid, and not taken by another of the same parent."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()

    def name(self, wanted: object, parent: str = "", default: str = "part") -> str:
        """Return the name for what a file calls `wanted`, or `default` if it has no name."""
        from pxr import Tf

        text = wanted if isinstance(wanted, str) and wanted else default
        base = name = Tf.MakeValidIdentifier(text)
        number = 1
        while (parent, name) in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._taken.add((parent, name))
        return name


def vectors(values: np.ndarray) -> Any:
    """Return USD's array of vectors (N, 3)."""
    from pxr import Vt

    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, np.float32))


def integers(values: np.ndarray) -> Any:
    """Return USD's array of integers (N,)."""
    from pxr import Vt

    return Vt.IntArray.FromNumpy(np.ascontiguousarray(values, np.int32))


def floats(values: np.ndarray) -> Any:
    """Return USD's array of numbers (N,)."""
    from pxr import Vt

    return Vt.FloatArray.FromNumpy(np.ascontiguousarray(values, np.float32))


def matrix(values: np.ndarray) -> Any:
    """Return USD's matrix of one (4, 4) that multiplies columns."""
    from pxr import Gf

    return Gf.Matrix4d(*np.asarray(values, np.float64).T.ravel().tolist())


def quaternions(values: np.ndarray) -> Any:
    """Return USD's array of quaternions x, y, z, w (N, 4)."""
    from pxr import Gf, Vt

    return Vt.QuatfArray([Gf.Quatf(w, x, y, z) for x, y, z, w in values.tolist()])


def halves(values: np.ndarray) -> Any:
    """Return USD's array of vectors (N, 3) in half precision."""
    from pxr import Gf, Vt

    return Vt.Vec3hArray([Gf.Vec3h(*row) for row in values.tolist()])


def define_triangles(mesh: Any, faces: np.ndarray) -> None:
    """Give a mesh its triangles (F, 3)."""
    from pxr import UsdGeom

    mesh.CreateFaceVertexCountsAttr(integers(np.full(len(faces), 3)))
    mesh.CreateFaceVertexIndicesAttr(integers(faces.ravel()))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)


def define_coordinates(mesh: Any, uv: np.ndarray, name: str = "st") -> None:
    """Give a mesh texture coordinates (V, 2) of its points, v pointing up."""
    from pxr import Sdf, UsdGeom, Vt

    kind = Sdf.ValueTypeNames.TexCoord2fArray
    st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(name, kind, UsdGeom.Tokens.vertex)
    st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(uv, np.float32)))


def define_blend_shapes(
    mesh: Any, names: Iterable[str], tokens: Iterable[str], targets: Iterable[np.ndarray]
) -> None:
    """Give a mesh blend shapes.

    Parameters
    ----------
    mesh : UsdGeom.Mesh
    names : iterable of str
    tokens : iterable of str
        Names of their weights in the animation.
    targets : iterable of (V, 3)
        Displacements of the points at weight 1.
    """
    from pxr import Sdf, UsdSkel

    stage, binding = mesh.GetPrim().GetStage(), UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    paths, free = [], FreeNames()
    for name, target in zip(names, targets):
        path = f"{mesh.GetPath()}/{free.name(name, default='shape')}"
        moving = np.flatnonzero(target.any(1))
        shape = UsdSkel.BlendShape.Define(stage, path)
        shape.CreateOffsetsAttr(vectors(target[moving]))
        shape.CreatePointIndicesAttr(integers(moving))
        paths.append(Sdf.Path(path))
    binding.CreateBlendShapesAttr(list(tokens))
    binding.CreateBlendShapeTargetsRel().SetTargets(paths)
