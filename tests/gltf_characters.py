"""A character for tests: a glTF with all that people's avatars have."""

import base64

import numpy as np
from gltf_files import FACES, PIXEL, POINTS, Gltf
from gltf_poses import world_matrix
from scipy.spatial.transform import Rotation

DOWN = np.where(POINTS[:, 1:2] < 0, [0.0, -0.5, 0], 0.0).astype(np.float32)  # opens a mouth


class Character(Gltf):
    """A skinned face with a neck, eyes of their own, a hat, shapes, animations and a VRM."""

    def __init__(self, neck=True, names=("Neck", "Head", "Eye_L", "Eye_R")):
        super().__init__()
        self.texture(base64.b64decode(PIXEL))
        image = {"uri": "data:image/png;base64," + PIXEL, "extras": {"who": "ours"}}
        self.tree["images"].append(image)
        self.tree["textures"].append({"source": 1})
        self.tree["materials"][0] |= {
            "normalTexture": {"index": 1, "scale": 0.5},
            "alphaMode": "BLEND",
            "doubleSided": True,
            "extensions": {"KHR_materials_clearcoat": {"clearcoatFactor": 0.3}},
        }
        self.primitive["attributes"]["NORMAL"] = self.add(np.tile([0.0, 0, 1], (len(POINTS), 1)))
        self.morph(DOWN, DOWN * 3, weights=[0.25, 0.0])
        self.tree["meshes"][0]["extras"] = {"targetNames": ["smile", "jawOpen"], "more": [1, 2]}
        turn = Rotation.from_euler("y", 30, degrees=True).as_quat().tolist()
        up = [0.0, 0.0, -0.2]
        chain = [
            {"name": "Hips", "translation": [0, -1, 0], "children": [4]},
            {"name": names[0], "translation": [0, 0.9, 0], "rotation": turn, "children": [5]},
            {"name": names[1], "translation": up, "children": [6, 7, 8]},
            {"name": names[2], "translation": [0.1, 0.1, 0.3]},
            {"name": names[3], "translation": [-0.1, 0.1, 0.3]},
            {"name": "hat", "mesh": 2, "translation": [0, 0, 0.5]},
        ]
        if not neck:
            chain[1]["name"] = "Spine"
        self.tree["nodes"] = [
            {"name": "face", "mesh": 0, "skin": 0},
            {"name": "eyes", "mesh": 1, "skin": 0},
            {"name": "root", "children": [3, 0, 1]},
            *chain,
        ]
        self.tree["scenes"][0]["nodes"] = [2]
        self.joints = [4, 5, 6, 7]
        self._bind()
        hat = {"attributes": {"POSITION": self.add(POINTS)}, "indices": self.add(FACES.ravel())}
        self.tree["meshes"].append({"name": "hat", "primitives": [hat], "extras": {"hat": True}})
        self._animate_before()
        bones = [{"bone": "head", "node": 5}, {"bone": "neck", "node": 4}]
        self.tree["extensions"] = {
            "VRM": {"humanoid": {"humanBones": bones}, "blendShapeMaster": {"groups": [1]}},
            "X_unknown": {"deep": [{"value": None}]},
        }
        if not neck:
            bones.pop()
        bones += [{"bone": "leftEye", "node": 6}, {"bone": "rightEye", "node": 7}]
        self.tree["extensionsUsed"] = ["KHR_materials_clearcoat", "VRM", "X_unknown"]
        self.tree["extras"] = {"kept": "yes"}

    def _bind(self):
        """Bind the face to the head, and half of it to the neck; the eyes to their joints."""
        count = len(POINTS)
        below = POINTS[:, 1] < -0.5
        numbers, weights = np.zeros((count, 4), np.uint8), np.zeros((count, 4))
        numbers[:, :2], weights[:, 0] = [1, 0], 1
        weights[below, :2] = 0.5
        inverse = [np.linalg.inv(world_matrix(self.tree["nodes"], k)) for k in self.joints]
        self.skin(self.joints, inverse, numbers, weights)
        eyes = dict(self.primitive["attributes"], POSITION=self.add(POINTS * 0.1 + [0.0, 0, 1]))
        sides = np.where(POINTS[:, :1] > 0, 2, 3) * np.array([1, 0, 0, 0])
        eyes["JOINTS_0"] = self.add(sides.astype(np.uint8))
        eyes["WEIGHTS_0"] = self.add(np.tile([1.0, 0, 0, 0], (count, 1)))
        primitive = {"attributes": eyes, "indices": self.add(FACES.ravel())}
        self.tree["meshes"].append({"name": "eyes", "primitives": [primitive]})

    def _animate_before(self):
        """An animation of the file's own."""
        self.animate([0.0, 1.0], [[0.0, 0.0], [1.0, 0.5]])
        self.tree["animations"][0]["name"] = "Idle"


def avatar(points, faces, uv=None):
    """A face (V, 3) with a skeleton, a texture, and a hat without texture.

    The neck's joint moves the lowest fifth of it, the head's joint the rest.
    """
    g = Gltf(points.astype(np.float32), faces)
    g.primitive["attributes"]["TEXCOORD_0"] = g.add(
        np.zeros((len(points), 2), np.float32) + 0.5 if uv is None else uv
    )
    g.texture(base64.b64decode(PIXEL))
    low, high = points.min(0), points.max(0)
    neck, head = low * [0, 1, 0], (0.7 * low + 0.3 * high) * [0, 1, 0]
    g.tree["nodes"] = [
        {"name": "Face", "mesh": 0},
        {"name": "Neck", "translation": neck.tolist(), "children": [2]},
        {"name": "Head", "translation": (head - neck).tolist(), "children": [3]},
        {"name": "Hat", "mesh": 1, "translation": [0, float(high[1] - head[1]), 0]},
    ]
    g.tree["scenes"][0]["nodes"] = [0, 1]
    inverse = np.tile(np.eye(4), (2, 1, 1))
    inverse[:, :3, 3] = -neck, -head
    share = np.clip((points[:, 1] - low[1]) / (0.2 * (high[1] - low[1])), 0, 1)
    numbers = np.tile(np.uint8([0, 1, 0, 0]), (len(points), 1))
    weights = np.stack([1 - share, share, 0 * share, 0 * share], axis=1)
    g.skin([1, 2], inverse, numbers, weights.astype(np.float32))
    size = float((high - low).max())
    hat = {"attributes": {"POSITION": g.add(0.2 * size * POINTS)}, "indices": g.add(FACES.ravel())}
    g.tree["materials"].append(
        {
            "name": "felt",
            "pbrMetallicRoughness": {
                "baseColorFactor": [0.1, 0.4, 0.2, 1.0],
                "metallicFactor": 0.25,
                "roughnessFactor": 0.75,
            },
        }
    )
    g.tree["meshes"].append({"name": "Hat", "primitives": [{**hat, "material": 1}]})
    return g
