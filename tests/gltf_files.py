"""glTF files for tests, built of one small surface."""

import base64
import json
import struct

import numpy as np

SIDE = 13  # vertices
_X, _Y = (axis.ravel() / 8 for axis in np.meshgrid(np.arange(SIDE) - 6, np.arange(SIDE) - 6))
POINTS = np.stack([_X, _Y, 1 - (_X**2 + _Y**2) / 2], axis=1).astype(np.float32)  # a bump, +z
_CORNER = (np.arange(SIDE - 1)[:, None] * SIDE + np.arange(SIDE - 1)).ravel()
FACES = np.concatenate(
    [
        np.stack([_CORNER, _CORNER + 1, _CORNER + SIDE + 1], axis=1),
        np.stack([_CORNER, _CORNER + SIDE + 1, _CORNER + SIDE], axis=1),
    ]
).astype(np.uint32)
UV = ((POINTS[:, :2] + 0.75) / 1.5).astype(np.float32)  # 0 to 1, v growing with y
CODES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}

PIXEL = (  # a PNG
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGM8YWPDwMDAxMDAwMDAAAAPtgFELjpb9AAA"
    "AABJRU5ErkJggg=="
)
# Written by meshoptimizer's own encoder.
STREAMS = {
    "attributes": (
        "oAAAAAAAAN/fHwA/P39//wAA/4CAQEAAPz9/f/8AAP+AgEBAAD8/f3//D/z/w/+AgEBAPz9/f///gIBAQAA/P39/"
        "/wAA/4CAQEAAPz9/f/8AAP+AgEBAAD8/f3//AAD/gIBAQAA/P39/w/8/8P//gIBAQD8/f3///4CAQEAAPz9/f/8A"
        "AP+AgEBAAD8/f3//AAD/gIBAQAA/P39//wAA/4CAQEAAPz9/8P/AAH///4CAQEBVVRUBDwgwhHz/Q8IMEIR8//CD"
        "BDyEfP+EfCDBDwj/hHwwQ8IM/4R8/xDwgwSEfP88IMEPhHz/hHwIMEPC/4R8DBDwg/+EfP8EPCDBhHz/DwgAAIR8"
        "AAAAAAAAVVEFAAAAMD8AAAwAPwADAAB/AMAAAH8wAAAA/wAAwAD/ADAAAIAMAAADgEAAAADAQBAFAQABAAAAAAAM"
        "hAAAAwB8CAAAAAAAAAAAAP//HwBMJBwUDAQDCxMbI0tMLCQcFAwEAwsTGyMrJCwkHBQMBAMLExsjKxwsJBwUDAQD"
        "CxMbIysULCQcFAwEAwsTGyMrDCwkHBQMBAMLExsjKwQsJBwUDAQDCxMbIysDLCQcFAwEAwsTGyMrCywkHBQMBAML"
        "ExsjKxMsJBwUDAQDCxMbIysbLCQcFAwEAwsTGyMrIywkHBQMBAMLExsjK0tMJBz//8AAFAwEAwsTGyNLAQAUIAAA"
        "YAAAAGAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEC/AABAvwAA4D4="
    ),
    "triangles": (
        "4f4N/hP+Ev4S/hL+Ev4S/hL+Ev4S/hL+Ev4N/hP+Ev4S/hL+Ev4S/hL+Ev4S/hL+Ev4N/hP+Ev4S/hL+Ev4S/hL+"
        "Ev4S/hL+Ev4N/hP+Ev4S/hL+Ev4S/hL+Ev4S/hL+Ev4N/hP+Ev4S/hL+Ev4S/hL+Ev4S/hL+Ev4N/hP+Ev4S/hL+"
        "Ev4S/hL+Ev4S/hL+Ev4N/hP+Ev4S/hL+Ev4S/hL+Ev4S/hL+Ev4N/hP+Ev4S/hL+Ev4S/hL+Ev4S/hL+Ev4N/hP+"
        "Ev4S/hL+Ev4S/hL+Ev4S/hL+Ev4N/hP+Ev4S/hL+Ev4S/hL+Ev4S/hL+Ev4N/hP+Ev4S/hL+Ev4S/hL+Ev4S/hL+"
        "Ev4N/hP+Ev4S/hL+Ev4S/hL+Ev4S/hL+Eg8c8wTyAvIC8gLyAvIC8gLyAvIC8gLyAg8E8wTyAvIC8gLyAvIC8gLy"
        "AvIC8gLyAg8E8wTyAvIC8gLyAvIC8gLyAvIC8gLyAg8E8wTyAvIC8gLyAvIC8gLyAvIC8gLyAg8E8wTyAvIC8gLy"
        "AvIC8gLyAvIC8gLyAg8E8wTyAvIC8gLyAvIC8gLyAvIC8gLyAg8E8wTyAvIC8gLyAvIC8gLyAvIC8gLyAg8E8wTy"
        "AvIC8gLyAvIC8gLyAvIC8gLyAg8E8wTyAvIC8gLyAvIC8gLyAvIC8gLyAg8E8wTyAvIC8gLyAvIC8gLyAvIC8gLy"
        "Ag8E8wTyAvIC8gLyAvIC8gLyAvIC8gLyAg8E8wTyAvIC8gLyAvIC8gLyAvIC8gLyAgB2h1ZneKmGZYlomAFpAAA="
    ),
    "indices": (
        "0QAENBoENBYENBoENBYENBoENBYENBYENBoENBYENBoENBYENBYENBoENBYENBoENBYENBoENBYENBYENBoENA05"
        "Axc5AxM5AxM5Axc5AxM5Axc5AxM5Axc5AxM5AxM5Axc5AxM5Axc5AxM5AxM5Axc5AxM5Axc5AxM5Axc5AwAAAAA="
    ),
    "exponential": (
        "oAAGD3f3f3f3d/cSEhISEvwAAAAHEgcFJIYYSSAAAAAAAAUKKKKiiAAAAAEAACAAAAcAn2Ag3+Cg4J/foB9fn58g"
        "/AAAAB/foAU5pI84BAMEA+AAAAADAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAD6//UA+v/1gAMA9Q=="
    ),
    "octahedral": (
        "oAcAbas/HJH863E1wtQ6BH7w/AAAAAkxbQYKM6NcVeVTo/wAAAADCgMHAJNOCCMFFhbOYQB/t5pYXfwAAAAEKqAF"
        "AgigggwAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAOj86Pz/B/9/"
    ),
    "quaternion": (
        "oAcA8rul5vnKe/WmraGmP9rC/AAAAEFOuwYPu/vf3fvb+xocHh4c/AAAAAscCwcAkIpZPfiZFtGnAKerynir/AAA"
        "AFBamwYBJAJARAJCBIwAAAAEBwAqhm4mp4EfJnxL06epZjz8AAAAMCLNBgZDJhFhVgdg6AAAAAcAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAEL3QvcZBf8f"
    ),
    "scattered": (
        "4f////////////////////////////////////////+6nQanyAH5df+h4gHUI5X6Af+QIIU36pQB/5DWBM+ZAfL2"
        "Af/H/wLKYKzVAv+V4gGRW41T/6QP2t8Cz+gE/+74A/WHAa/yBP/47gKosgOTnAL/legDzK0FgyH/zm399AT7UP/C"
        "1QW/lAby5gP/n7ADzs0BgqoB/9s2nRK93wL/wxW+b91s//jsBPeHAfxx/8PtAtzPArCLAf/N5AK2SOL2A/+ZtAHu"
        "pAHdswT/8p4ChPgB9ZgC//6xAa+OAcwO/7GnAuzHA+e1Bf+KoAPWhQGedP+NrALJjAGLPf/Wafo6ttoB/4CgAcH9"
        "BaSnBv/D+QLZogGipwL/8V6NqQKIP//k9AKvdaFU/42cAaqMA/vZAgB2h1ZneKmGZYlomAFpAAA="
    ),
}


def stream(name):
    return base64.b64decode(STREAMS[name])


def glb_of(text: bytes, block: bytes) -> bytes:
    """A GLB of a JSON text and a block of bytes."""
    text += b" " * (-len(text) % 4)
    head = struct.pack("<5I", 0x46546C67, 2, 28 + len(text) + len(block), len(text), 0x4E4F534A)
    return head + text + struct.pack("<2I", len(block), 0x004E4942) + block


class Gltf:
    """A file with one scene of one node, until a test changes its tree."""

    def __init__(self, points=POINTS, faces=FACES):
        self.block = b""
        self.views, self.accessors = [], []
        primitive = {"attributes": {"POSITION": self.add(points)}}
        if faces is not None:
            primitive["indices"] = self.add(np.asarray(faces, np.uint32).ravel())
        self.tree = {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [primitive]}],
        }

    @property
    def primitive(self):
        """The first primitive."""
        return self.tree["meshes"][0]["primitives"][0]

    @property
    def node(self):
        """The first node."""
        return self.tree["nodes"][0]

    def view(self, content, **more):
        """Add a buffer view of an array or bytes; return its number."""
        content = content if isinstance(content, bytes) else np.ascontiguousarray(content).tobytes()
        self.block += bytes(-len(self.block) % 4)
        place = {"buffer": 0, "byteOffset": len(self.block), "byteLength": len(content)}
        self.views.append({**place, **more})
        self.block += content
        return len(self.views) - 1

    def add(self, array, **more):
        """Add an accessor of an array (N,) or (N, width); return its number."""
        array = np.asarray(array)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        width = array.shape[1] if array.ndim == 2 else 1
        about = {"componentType": CODES[array.dtype.str[1:]], "count": len(array)}
        view = {} if "bufferView" in more else {"bufferView": self.view(array)}
        self.accessors.append({**view, **about, "type": KINDS[width], **more})
        return len(self.accessors) - 1

    def skin(self, joints, inverse, numbers=None, weights=None):
        """Bind the primitive to joints by their inverse bind matrices (J, 4, 4)."""
        count = self.accessors[self.primitive["attributes"]["POSITION"]]["count"]
        if numbers is None:
            numbers, weights = np.zeros((count, 4), np.uint8), np.tile([1.0, 0, 0, 0], (count, 1))
        joined = {"JOINTS_0": self.add(numbers), "WEIGHTS_0": self.add(weights)}
        self.primitive["attributes"].update(joined)
        columns = np.asarray(inverse, np.float64).transpose(0, 2, 1).reshape(-1, 16)
        skin = {"joints": joints, "inverseBindMatrices": self.add(columns)}
        self.tree.setdefault("skins", []).append(skin)
        self.node["skin"] = 0

    def texture(self, content, mime="image/png", extension=None, **reference):
        """Give the primitive a new material with a texture; return the material."""
        materials = self.tree.setdefault("materials", [])
        images, textures = (self.tree.setdefault(name, []) for name in ("images", "textures"))
        images.append({"bufferView": self.view(content), "mimeType": mime})
        source = {"source": len(images) - 1}
        textures.append({"extensions": {extension: source}} if extension else source)
        colour = {"baseColorTexture": {"index": len(textures) - 1, **reference}}
        materials.append({"pbrMetallicRoughness": colour})
        self.primitive["material"] = len(materials) - 1
        self.primitive["attributes"].setdefault("TEXCOORD_0", self.add(UV))
        return materials[-1]

    def require(self, *names):
        """Name extensions that a reader must know."""
        self.tree["extensionsUsed"] = self.tree["extensionsRequired"] = list(names)

    def morph(self, *targets, weights=None):
        """Add morph targets (V, 3)."""
        self.primitive["targets"] = [{"POSITION": self.add(target)} for target in targets]
        if weights is not None:
            self.tree["meshes"][0]["weights"] = weights

    def animate(self, times, weights):
        """Animate the weights (T, K) of the morph targets of the first node."""
        sampler = {"input": self.add(np.array(times)), "output": self.add(np.ravel(weights))}
        channel = {"sampler": 0, "target": {"node": 0, "path": "weights"}}
        self.tree["animations"] = [{"channels": [channel], "samplers": [sampler]}]

    def whole(self, **buffer):
        """The tree with its arrays."""
        buffers = [{"byteLength": len(self.block), **buffer}]
        return {
            **self.tree,
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [*buffers, *self.tree.get("buffers", [])],
        }

    def glb(self):
        """The content of a glb."""
        return glb_of(json.dumps(self.whole()).encode(), self.block)

    def write(self, path, uri=None):
        """Write a glb or vrm, or a gltf whose data are in the text, or in the file `uri`."""
        if path.suffix != ".gltf":
            path.write_bytes(self.glb())
            return path
        data = "data:application/octet-stream;base64," + base64.b64encode(self.block).decode()
        if uri is not None:
            (path.parent / uri).write_bytes(self.block)
        path.write_text(json.dumps(self.whole(uri=data if uri is None else uri)), "utf-8")
        return path


def compressed():
    """The surface, compressed by meshoptimizer; the plain buffer does not exist."""
    g = Gltf(faces=None)
    g.primitive["indices"] = g.add(FACES.ravel().astype(np.uint16))
    for number, (name, mode, count, stride) in enumerate(
        [("attributes", "ATTRIBUTES", len(POINTS), 12), ("triangles", "TRIANGLES", FACES.size, 2)]
    ):
        place = g.views[g.view(stream(name))]
        about = {**place, "count": count, "byteStride": stride, "mode": mode}
        view = g.views[g.accessors[number]["bufferView"]]
        view.update(buffer=1, extensions={"EXT_meshopt_compression": about})
    g.tree["buffers"] = [{"byteLength": 9000}]
    g.require("EXT_meshopt_compression")
    return g


def character():
    """The surface with a skin, morph targets, colours of vertices and a texture."""
    g = Gltf()
    g.texture(base64.b64decode(PIXEL), extensions={"KHR_texture_transform": {"scale": [0.5, 0.5]}})
    shares = np.tile(np.uint8([200, 55, 0, 0]), (len(POINTS), 1))
    g.tree["nodes"] += [{}, {"translation": [0, 2, 0], "rotation": [0, 0, 0, 1]}]
    g.skin([1, 2], [np.eye(4)] * 2, np.tile(np.uint8([1, 0, 0, 0]), (len(POINTS), 1)), shares)
    g.accessors[g.primitive["attributes"]["WEIGHTS_0"]]["normalized"] = True
    g.primitive["attributes"]["COLOR_0"] = g.add(np.tile([0.5, 0.25, 1.0], (len(POINTS), 1)))
    g.morph(POINTS * 0.1, POINTS * -0.1, weights=[1.0, 0.0])
    return g


def named_character():
    """The same with names of its morph targets, and VRM 1's expressions of them."""
    g = character()
    g.tree["meshes"][0]["extras"] = {"targetNames": ["jawOpen", "Fcl_MTH_U"]}
    binds = [{"node": 0, "index": 0, "weight": 0.5}, {"node": 0, "index": 1}]
    presets = {"aa": {"morphTargetBinds": binds[:1]}, "ou": {"morphTargetBinds": binds}}
    g.tree["extensions"] = {"VRMC_vrm": {"expressions": {"preset": presets}}}
    return g


def vrm_0_character():
    """The same with VRM 0's groups."""
    g = named_character()
    binds = [{"mesh": 0, "index": 0, "weight": 100.0}, {"mesh": 0, "index": 1, "weight": 50.0}]
    groups = [
        {"name": "A", "presetName": "a", "binds": binds[:1]},
        {"name": "Grin", "presetName": "unknown", "binds": binds},
    ]
    g.tree["extensions"] = {"VRM": {"blendShapeMaster": {"blendShapeGroups": groups}}}
    return g


def with_shapes(vertices, faces, shapes, expressions=None):
    """A file of a mesh with blend shapes (V, 3) by name, and presets of a VRM 1 by their names."""
    g = Gltf(vertices.astype(np.float32), faces)
    g.morph(*(shape.astype(np.float32) for shape in shapes.values()))
    g.tree["meshes"][0]["extras"] = {"targetNames": list(shapes)}
    if expressions:
        number = {name: k for k, name in enumerate(shapes)}
        presets = {
            preset: {
                "morphTargetBinds": [
                    {"node": 0, "index": number[name], "weight": weight}
                    for name, weight in mix.items()
                ]
            }
            for preset, mix in expressions.items()
        }
        g.tree["extensions"] = {"VRMC_vrm": {"expressions": {"preset": presets}}}
    return g
