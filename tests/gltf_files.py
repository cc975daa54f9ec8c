"""glTF files for tests, built of one small surface."""

import base64
import json

import fuzzing
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

    def write(self, path, uri=None):
        """Write a glb or vrm, or a gltf whose data are in the text, or in the file `uri`."""
        if path.suffix != ".gltf":
            path.write_bytes(fuzzing.glb_of(json.dumps(self.whole()).encode(), self.block))
            return path
        data = "data:application/octet-stream;base64," + base64.b64encode(self.block).decode()
        if uri is not None:
            (path.parent / uri).write_bytes(self.block)
        path.write_text(json.dumps(self.whole(uri=data if uri is None else uri)), "utf-8")
        return path
