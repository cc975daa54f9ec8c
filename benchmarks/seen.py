"""Whether a face tracker sees the emotions on animated heads.

python benchmarks/seen.py SPEECH.wav HEAD... --tracker face_landmarker.task --prototypes model.npz
    [--weights SET] [--intensity 1.0] [--fps 5] [--json] [--pictures FOLDER]

Each head (a mesh file, or the model.npz of ICT FaceKit for its neutral head) speaks with every emotion, is drawn as a
portrait and scored by MediaPipe's Face Landmarker (tracker.py), which this project did not train. What an emotion adds
to the scores, its mean over the sentence less the neutral sentence's, is set beside what six prototypes add to the
neutral face: ICT FaceKit's head with the blend shapes of EMFACS's action units (Friesen, Ekman 1983), drawn likewise.
An emotion is right if the prototype nearest by cosine is its own; its strength is its share along it, 1 being as much
as the prototype. `posed` is the same for the prototype's own blend shapes on this head, still: what the head and the
tracker let one see at best. Length is relative to the prototypes' mean, errors are standard errors of the neutral
sentence's mean, frames taken as independent; calm, which has no prototype, has only these.

Eyeballs, brows and lips are painted, for masks have no eyes and the tracker was trained on photographs. See --pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import trimesh

import talkemo
from talkemo import InputError, Models
from talkemo.binding import Binding
from talkemo.capture.detector import SCORES, Tracker
from talkemo.emotions import EMOTIONS
from talkemo.face import LIPS, MOUTH_CORNERS
from talkemo.render.pictures import save_picture
from talkemo.render.software import NOTHING, _draw_band, _normals, _shade
from talkemo.render.view import BACKGROUND, LIGHTS, SKIN, frame_view
from talkemo.weights import DEFAULT

SIZE = 384  # pixels on a side of a picture
ROOM = 1.1  # times the height that the camera shows for a film
PROTOTYPES = {
    "happy": {"mouthSmile": 0.8, "cheekSquint": 0.6, "mouthDimple": 0.2},
    "sad": {"browInnerUp": 0.8, "browDown": 0.3, "mouthFrown": 0.7, "mouthShrugLower": 0.3},
    "angry": {
        "browDown": 0.9,
        "eyeSquint": 0.3,
        "eyeWide": 0.3,
        "mouthPress": 0.5,
        "mouthRollLower": 0.2,
        "noseSneer": 0.2,
    },
    "fearful": {
        "browInnerUp": 0.8,
        "browOuterUp": 0.5,
        "browDown": 0.4,
        "eyeWide": 0.7,
        "mouthStretch": 0.6,
        "jawOpen": 0.15,
    },
    "disgust": {
        "noseSneer": 0.8,
        "mouthUpperUp": 0.5,
        "mouthFrown": 0.4,
        "browDown": 0.4,
        "eyeSquint": 0.3,
        "mouthShrugLower": 0.3,
    },
    "surprised": {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.6, "jawOpen": 0.3},
}
# Where the eyes look and whether they blink tells no emotion; all other scores are compared.
COMPARED = np.array([not name.startswith(("_", "eyeLook", "eyeBlink")) for name in SCORES])
TOLD = 3.0  # standard errors of the neutral mean from which calm is told from it

# ICT FaceKit: vertices that are drawn (after them come tear fluid, occlusion and lashes), and where its parts begin.
ICT_DRAWN = 24591
ICT_PARTS = {0: "skin", 14062: "tongue", 17039: "teeth", 21451: "eyes"}

# Colours (RGB), and sizes in canonical mm.
BROW, LIP, INSIDE = np.array([[78.0, 54, 42], [196, 122, 112], [84, 34, 34]])
TEETH, TONGUE = np.array([[228.0, 220, 204], [176, 92, 88]])
WHITE, IRIS, PUPIL = np.array([[236.0, 232, 228], [84, 60, 44], [16, 14, 14]])
EYEBALL, IRIS_SIZE, PUPIL_SIZE = 14.6, 6.4, 2.8  # radii
BROW_WIDTH, BROW_EDGE = 3.4, 1.2  # half the width of a brow, and over what it fades
# How far the middle of a brow lies below the iBUG points, which are on its upper edge; so that the tracker takes
# resting heads for neither raising nor lowering their brows.
BROW_DROP = 7.0
RIGHT_BROW, LEFT_BROW = slice(17, 22), slice(22, 27)  # iBUG points
BEHIND_LIPS = 3.0  # mm behind the corners of the mouth where its inside begins
MEMBRANE = 2.5  # stretch by an opening jaw from which a triangle between the lips closes the mouth and is left out


# ------------------------------------------------------------------------------------------------------------- heads


def write_ict(model: Path, out: Path) -> Path:
    """Write the neutral head of ICT FaceKit's model.npz, with eyes, teeth and tongue, as an obj; returns its path."""
    with np.load(model, allow_pickle=False) as file:
        vertices, quads = file["neutral"][:ICT_DRAWN], file["quads"]
    quads = quads[(quads < ICT_DRAWN).all(1)]
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    starts = list(ICT_PARTS)
    part = np.searchsorted(starts, quads[:, 0], side="right") - 1
    for number, start in enumerate(starts):
        lines.append(f"g {ICT_PARTS[start]}")
        lines += ["f " + " ".join(str(k + 1) for k in quad if k >= 0) for quad in quads[part == number]]
    path = out / "ict_facekit.obj"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def vertex_parts(path: Path, count: int) -> np.ndarray:
    """What each of a mesh's vertices belongs to, (N,) str: skin, teeth, tongue, eyes or hidden, by an OBJ's groups.

    Hidden are the helpers and joints of MakeHuman's base mesh, clothes and cubes that nobody is to see.
    """
    parts = np.full(count, "skin", dtype="<U6")
    if path.suffix.lower() != ".obj":
        return parts
    kind = "skin"
    for line in path.read_text("utf-8", errors="replace").splitlines():
        if line.startswith("g "):
            kind = group_part(line[2:].strip().lower())
        elif line.startswith("f ") and kind != "skin":
            parts[[int(corner.split("/")[0]) - 1 for corner in line.split()[1:]]] = kind
    return parts


def group_part(name: str) -> str:
    """Which of the parts an OBJ's group is."""
    for part, words in {"teeth": ("teeth",), "tongue": ("tongue", "gums"), "hidden": ("lashes", "joint")}.items():
        if any(word in name for word in words):
            return part
    if name in ("eyes", "helper-l-eye", "helper-r-eye"):
        return "eyes"
    return "hidden" if name.startswith("helper-") else "skin"


# ---------------------------------------------------------------------------------------------------------- pictures


class Portrait:
    """Draws frames of a bound head, painted, with eyeballs of its own.

    parts: (N,) str, see `vertex_parts`; view: front, left or right
    """

    def __init__(self, binding: Binding, parts: np.ndarray, view: str = "front"):
        camera = frame_view(binding.rest, binding.focus, view, binding.placement.rotation)
        self.camera = replace(camera, half=ROOM * camera.half, distance=ROOM * camera.distance)
        rest = binding.placement.to_canonical(binding.mesh.vertices)
        self.landmarks = rest[binding.landmarks68]
        balls, ball_faces, ball_colours = eyeballs(binding)
        faces = drawn_faces(binding, parts, rest)
        self.balls = balls
        self.faces = np.concatenate([faces, ball_faces + len(rest)]).astype(np.int32)
        self.members = np.arange(len(self.faces), dtype=np.int32)
        self.colours = np.concatenate([vertex_colours(parts, rest, self.landmarks), ball_colours]).astype(np.float32)
        # Nothing is painted on what lies far away.
        painted = np.where((parts == "skin")[:, None], rest, 1e4)
        self.places = np.concatenate([painted, np.full_like(balls, 1e4)]).astype(np.float32)

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """A picture (SIZE, SIZE, 3) uint8 of vertices (N, 3)."""
        seen = self.camera.to_camera(np.concatenate([vertices, self.balls])).astype(np.float32)
        normals = np.empty_like(seen)
        _normals(seen, self.faces, normals)
        points = np.ascontiguousarray(self.camera.to_pixels(seen, 2 * SIZE, 2 * SIZE), np.float32)
        depth, shape = np.empty((2 * SIZE, 2 * SIZE), np.float32), (2 * SIZE, 2 * SIZE, 3)
        images = np.zeros((3, *shape), np.float32)
        # The rasteriser interpolates any three numbers a vertex: normals, colours, and places in the resting face.
        for image, values in zip(images, (normals, self.colours, self.places)):
            _draw_band(points, values, self.faces, self.members, 0, depth, image)
        hit = depth > NOTHING
        albedo = np.zeros(shape, np.float32)
        albedo[hit] = paint(images[1][hit], images[2][hit], self.landmarks)
        share = halved(hit[..., None].astype(np.float32))
        grey, lit = np.full(3, 160, np.float32), np.empty((SIZE, SIZE, 3), np.uint8)
        _shade(depth, images[0], LIGHTS, grey, np.zeros(3, np.float32), lit)
        seen_part = lit / grey * halved(albedo) / np.maximum(share, 0.25)
        return np.clip(seen_part + (1 - share) * BACKGROUND, 0, 255).astype(np.uint8)


def halved(image: np.ndarray) -> np.ndarray:
    """An image (2·H, 2·W, C) as the mean (H, W, C) of each 2×2 samples."""
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def eyeballs(binding: Binding) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spheres in the eyes that look ahead: vertices (E, 3) in the mesh's space, triangles (G, 3), colours (E, 3)."""
    ball = trimesh.creation.icosphere(subdivisions=4, radius=1.0)
    middle = np.linalg.norm(ball.vertices - [0, 0, 1], axis=1) * EYEBALL
    colours = np.where((middle < IRIS_SIZE)[:, None], IRIS, WHITE)
    colours[middle < PUPIL_SIZE] = PUPIL
    turned = binding.scale * EYEBALL * ball.vertices @ binding.placement.rotation.T
    vertices = np.concatenate([centre + turned for _, centre in binding.eyes])
    count = len(binding.eyes)
    faces = np.concatenate([ball.faces + k * len(ball.vertices) for k in range(count)])
    return vertices, faces, np.tile(colours, (count, 1))


def drawn_faces(binding: Binding, parts: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """The triangles (F, 3) that are drawn: without hidden parts, the mesh's own eyes, and skin over eyes and mouth.

    rest: (N, 3) canonical mm
    """
    faces = binding.mesh.faces
    faces = faces[~np.isin(parts[faces], ("hidden", "eyes")).any(1)]
    centres = rest[faces].mean(1)
    landmarks = rest[binding.landmarks68]
    keep = np.ones(len(faces), bool)
    for eye in (slice(36, 42), slice(42, 48)):
        near = np.abs(centres[:, 2] - landmarks[eye, 2].mean()) < EYEBALL
        keep &= ~(near & inside(centres[:, :2], landmarks[eye, :2]))
    jaw = binding.face.expression_names.index("jawOpen")
    opened = binding.vertices(binding.face.shape_coordinates[[jaw]])[0]
    sides = [np.linalg.norm(v[faces] - v[np.roll(faces, 1, axis=1)], axis=2) for v in (binding.rest, opened)]
    stretched = (sides[1] > MEMBRANE * sides[0]).any(1)
    return faces[keep & ~(stretched & inside(centres[:, :2], landmarks[60:68, :2]))]


def vertex_colours(parts: np.ndarray, rest: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Colours (N, 3) of the mesh's vertices at rest (N, 3) canonical mm; landmarks: (68, 3)."""
    colours = np.tile(SKIN.astype(float), (len(rest), 1))
    lips, corners = landmarks[LIPS], landmarks[list(MOUTH_CORNERS)]
    low, high = lips.min(0) - np.array([0, 10, 40]), lips.max(0) + np.array([0, 10, 0])
    high[2] = corners[:, 2].min() - BEHIND_LIPS
    colours[((rest > low) & (rest < high)).all(1)] = INSIDE
    colours[parts == "teeth"], colours[parts == "tongue"] = TEETH, TONGUE
    return colours


def paint(colours: np.ndarray, places: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Colours (P, 3) with brows and lips, of points that lie at places (P, 3) of the resting face."""
    result = colours.copy()
    for brow in (landmarks[RIGHT_BROW, :2], landmarks[LEFT_BROW, :2]):
        line = brow - [0, BROW_DROP]
        rows = in_box(places, line, 2 * BROW_WIDTH)
        share = np.clip((BROW_WIDTH - to_line(places[rows, :2], line)) / BROW_EDGE + 0.5, 0, 1)[:, None]
        result[rows] += share * (BROW - result[rows])
    outline = landmarks[48:60]
    rows = in_box(places, outline[:, :2], 0)
    within = inside(places[rows, :2], outline[:, :2]) & (places[rows, 2] > outline[:, 2].min() - BEHIND_LIPS)
    result[rows[within]] = LIP
    return result


def in_box(places: np.ndarray, points: np.ndarray, margin: float) -> np.ndarray:
    """Indices of the places (P, 3) that lie in the box around points (Q, 2) with a margin, seen from the front."""
    (left, low), (right, high) = points.min(0) - margin, points.max(0) + margin
    x, y = places[:, 0], places[:, 1]
    return np.flatnonzero((x > left) & (x < right) & (y > low) & (y < high))


def to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Distance (N,) of points (N, 2) from a line through points (P, 2)."""
    distance = np.full(len(points), np.inf)
    for a, b in pairwise(line):
        along = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(points - a - along[:, None] * (b - a), axis=1))
    return distance


def inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Which points (N, 2) lie in a polygon (P, 2): those from which a ray crosses its sides an odd number of times."""
    odd = np.zeros(len(points), bool)
    x, y = points.T
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0)):
        between = (ay > y) != (by > y)
        odd ^= between & (x < ax + (y - ay) * (bx - ax) / np.where(between, by - ay, 1.0))
    return odd


# ------------------------------------------------------------------------------------------------------- the measure


@dataclass(frozen=True)
class Head:
    """A bound head: its name, binding, and what each of its vertices belongs to, see `vertex_parts`."""

    name: str
    binding: Binding
    parts: np.ndarray


def load_head(path: Path, models: Models, folder: Path) -> Head:
    """A head from a mesh file, or ICT FaceKit's from its npz; folder: where its obj is written."""
    mesh = write_ict(path, folder) if path.suffix == ".npz" else path
    binding = talkemo.bind(mesh, models=models, cache=False)
    return Head(mesh.stem, binding, vertex_parts(mesh, len(binding.mesh.vertices)))


def track_all(head: Head, frames: np.ndarray, tracker: Tracker) -> np.ndarray:
    """Scores (T, 52) of a head's vertices (T, N, 3), NaN where the tracker finds no face."""
    portrait = Portrait(head.binding, head.parts)
    tracked = [tracker.track(portrait.draw(vertices)) for vertices in frames]
    if not any(tracked):
        raise SystemExit(f"{head.name}: the tracker finds no face")
    return np.array([np.full(len(SCORES), np.nan) if one is None else one.scores for one in tracked])


def added_by(head: Head, frames: np.ndarray, tracker: Tracker) -> dict[str, np.ndarray]:
    """What each prototype adds to the compared scores (C,) of a head; frames (7, N, 3): neutral and the prototypes."""
    scores = track_all(head, frames, tracker)[:, COMPARED]
    if np.isnan(scores).any():
        raise SystemExit(f"{head.name}: the tracker finds no face in a prototype")
    return dict(zip(PROTOTYPES, scores[1:] - scores[0]))


def prototypes(head: Head, model: Path) -> np.ndarray:
    """Vertices (7, N, 3) of ICT FaceKit's head, neutral and with each prototype of its model.npz."""
    with np.load(model, allow_pickle=False) as file:
        names, shapes = list(file["expression_names"]), file["expression"][:, :ICT_DRAWN].astype(np.float32)
    frames = [head.binding.rest]
    for weights in PROTOTYPES.values():
        amounts = [weights.get(name, weights.get(name[:-2], 0.0)) for name in names]
        frames.append(head.binding.rest + np.tensordot(np.array(amounts, np.float32), shapes, 1))
    return np.array(frames)


def posed(head: Head) -> np.ndarray:
    """Vertices (7, N, 3) of a bound head, neutral and with each prototype's blend shapes."""
    face = head.binding.face
    shapes = np.stack([face.shape_vector(weights) for weights in ({}, *PROTOTYPES.values())])
    return head.binding.vertices(shapes @ face.shape_coordinates)


def spoken(head: Head, speech: Path, options: argparse.Namespace, models: Models) -> dict[str, np.ndarray]:
    """Vertices (T, N, 3) of the sentence with every emotion, and `opening` (T,) mm, how far the neutral lips open."""
    result = {}
    for emotion in EMOTIONS:
        made = talkemo.animate(
            head.binding,
            speech,
            emotion=emotion,
            intensity=options.intensity,
            fps=options.fps,
            models=models,
        )
        assert made.vertices is not None and made.motion is not None
        result[emotion] = made.vertices
        if emotion == "neutral":
            result["opening"] = made.motion.lip_opening(models.face)
    return result


def compare(scores: dict[str, np.ndarray], known: dict[str, np.ndarray]) -> dict[str, dict]:
    """What is seen of each emotion of a head; scores: (T, 52) by emotion, known: what the prototypes add."""
    means = {emotion: np.nanmean(rows[:, COMPARED], axis=0) for emotion, rows in scores.items()}
    neutral = scores["neutral"][:, COMPARED]
    neutral = neutral[~np.isnan(neutral).any(1)]
    error = np.linalg.norm(neutral.std(0, ddof=1)) / np.sqrt(len(neutral))
    usual = np.mean([np.linalg.norm(p) for p in known.values()])
    result = {}
    for emotion in EMOTIONS[1:]:
        added = means[emotion] - means["neutral"]
        length = np.linalg.norm(added)
        result[emotion] = {
            "length": float(length / usual),
            "errors": float(length / error),
            "lost": int(np.isnan(scores[emotion]).any(1).sum()),
            "added": named(added),
            **(judged(added, emotion, known) if emotion in known else {}),
        }
    return result


def judged(added: np.ndarray, emotion: str, known: dict[str, np.ndarray]) -> dict:
    """Which prototype is nearest to what an emotion adds (C,), whether it is its own, and how strong along its own."""
    length = np.linalg.norm(added) + 1e-12
    cosines = {name: float(added @ p / (length * np.linalg.norm(p))) for name, p in known.items()}
    nearest = max(cosines, key=lambda name: cosines[name])
    strength = float(added @ known[emotion] / (known[emotion] @ known[emotion]))
    return {"nearest": nearest, "right": nearest == emotion, "strength": strength, "cosines": cosines}


def named(added: np.ndarray, least: float = 0.02) -> dict[str, float]:
    """The compared scores (C,) that change by `least` or more, by their names."""
    names = np.array(SCORES)[COMPARED]
    return {str(names[k]): round(float(added[k]), 3) for k in np.argsort(-np.abs(added)) if abs(added[k]) >= least}


def contact_sheet(head: Head, frames: dict[str, np.ndarray]) -> np.ndarray:
    """The emotions side by side, (2·SIZE, 8·SIZE, 3), front and side, where the neutral lips open by the median."""
    opening = frames["opening"]
    frame = int(np.argsort(opening)[len(opening) // 2])
    views = [Portrait(head.binding, head.parts, view) for view in ("front", "left")]
    return np.vstack([np.hstack([view.draw(frames[emotion][frame]) for emotion in EMOTIONS]) for view in views])


# ------------------------------------------------------------------------------------------------------------ output


def summary(heads: dict[str, dict[str, dict]]) -> dict:
    """How many emotions of all heads are right, and the mean strength of each."""
    rows = {emotion: [head[emotion] for head in heads.values()] for emotion in PROTOTYPES}
    return {
        "right": sum(row["right"] for of_emotion in rows.values() for row in of_emotion),
        "posed_right": sum(row["posed"]["right"] for of_emotion in rows.values() for row in of_emotion),
        "of": len(rows) * len(heads),
        "right_by_emotion": {emotion: sum(row["right"] for row in some) for emotion, some in rows.items()},
        "strength": {emotion: float(np.mean([row["strength"] for row in some])) for emotion, some in rows.items()},
    }


def print_tables(heads: dict[str, dict[str, dict]], total: dict) -> None:
    """A line for each head and emotion, then the summary."""
    columns = f"{'cosine':>6} {'strength':>8} {'length':>6} {'errors':>6}  posed"
    print(f"{'head':20} {'emotion':10} {'nearest':10} {'':5} {columns}")
    for name, rows in heads.items():
        for emotion, row in rows.items():
            end = f"{row['length']:6.2f} {row['errors']:6.1f}"
            if "nearest" in row:
                seen = f"{row['nearest']:10} {'right' if row['right'] else 'wrong'} {row['cosines'][emotion]:6.2f}"
                best = row["posed"]
                seen += f" {row['strength']:8.2f} {end}  {best['nearest']} {best['strength']:.2f}"
            else:
                seen = f"{'' if row['errors'] > TOLD else 'not '}told from neutral".ljust(32) + end
            print(f"{name:20.20} {emotion:10} {seen}" + (f"  {row['lost']} frames lost" if row["lost"] else ""))
    print(f"\n{total['right']} of {total['of']} right; posed {total['posed_right']}")
    for emotion, strength in total["strength"].items():
        print(f"{emotion:10} {total['right_by_emotion'][emotion]} of {len(heads)} right, mean strength {strength:.2f}")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("heads", type=Path, nargs="+", metavar="HEAD")
    parser.add_argument("--tracker", type=Path, required=True, metavar="FILE", help="MediaPipe's face_landmarker.task")
    parser.add_argument("--prototypes", type=Path, required=True, metavar="FILE", help="ICT FaceKit's model.npz")
    parser.add_argument("--weights", default=DEFAULT, metavar="SET")
    parser.add_argument("--intensity", type=float, default=1.0)
    parser.add_argument("--fps", type=float, default=5.0, help="frames a second that are drawn")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write a contact sheet of each head")
    return parser.parse_args()


def look_at(head: Head, known: dict[str, np.ndarray], options: argparse.Namespace, models: Models, tracker: Tracker):
    """What is seen of each emotion of a head, see `compare`; its contact sheet is written where one is wanted."""
    frames = spoken(head, options.speech, options, models)
    if options.pictures:
        save_picture(options.pictures / f"{head.name}.png", contact_sheet(head, frames))
    rows = compare({emotion: track_all(head, frames[emotion], tracker) for emotion in EMOTIONS}, known)
    for emotion, added in added_by(head, posed(head), tracker).items():
        rows[emotion]["posed"] = judged(added, emotion, known)
    return rows


def main() -> None:
    options = parse_options()
    models, tracker = talkemo.load_models(options.weights), Tracker(options.tracker)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    heads = {}
    with tempfile.TemporaryDirectory() as folder:
        model = load_head(options.prototypes, models, Path(folder))
        known = added_by(model, prototypes(model, options.prototypes), tracker)
        for path in options.heads:
            head = model if path == options.prototypes else load_head(path, models, Path(folder))
            heads[head.name] = look_at(head, known, options, models, tracker)
    total = summary(heads)
    if options.json:
        shapes = {emotion: named(added) for emotion, added in known.items()}
        print(json.dumps({"summary": total, "heads": heads, "prototypes": shapes}, indent=1))
    else:
        print_tables(heads, total)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{error.message}\n{error.hint}")
