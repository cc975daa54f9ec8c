"""What a file holds, by its first bytes, and what a file is by the ending of its name: for messages."""

from __future__ import annotations

import os
from pathlib import Path

START_BYTES = 64  # of a file that say what it holds
TEXT = "text"
# What a content is, where its mark stands, and the endings that such files have.
MARKS: tuple[tuple[int, bytes, str, tuple[str, ...]], ...] = (
    (0, b"\x89PNG", "a png image", (".png",)),
    (0, b"\xff\xd8\xff", "a jpg image", (".jpg", ".jpeg")),
    (0, b"GIF8", "a gif", (".gif",)),
    (8, b"WEBP", "a webp image", (".webp",)),
    (8, b"WAVE", "a wav recording", (".wav",)),
    (8, b"AVI ", "an avi video", (".avi",)),
    (0, b"fLaC", "a flac recording", (".flac",)),
    (0, b"OggS", "an ogg recording", (".ogg", ".opus")),
    (0, b"ID3", "an mp3 recording", (".mp3",)),
    (4, b"ftyp", "an mp4 video or recording", (".mp4", ".m4a", ".m4v", ".mov", ".aac")),
    (0, b"\x1aE\xdf\xa3", "a webm or mkv video", (".webm", ".mkv")),
    (0, b"glTF", "a binary glTF", (".glb", ".vrm", ".vrma")),
    (0, b"\x93NUMPY", "an array of numpy (npy)", (".npy",)),
    (0, b"PK\x03\x04", "a zip or npz", (".npz", ".zip", ".usdz")),
    (0, b"PXR-USDC", "a binary USD", (".usdc", ".usd")),
    (0, b"Kaydara FBX", "an FBX", (".fbx",)),
    (0, b"BLENDER", "a Blender file", (".blend",)),
    (0, b"%PDF", "a pdf", (".pdf",)),
    (0, b"version https://git-lfs", "a pointer of Git LFS (`git lfs pull` gets the file)", ()),
    (0, b"<!DOCTYPE html", "a web page", (".html", ".htm")),
    (0, b"<!doctype html", "a web page", (".html", ".htm")),
    (0, b"<html", "a web page", (".html", ".htm")),
)
# Endings of files that are not text, whatever they hold.
BINARY_ENDINGS = frozenset(ending for *_, endings in MARKS for ending in endings) - {
    *(".html", ".htm", ".wma", ".aac")
}
# What a file is by the ending of its name.
NAMED_AS = {
    **dict.fromkeys((".obj", ".ply", ".stl", ".off"), "a mesh"),
    **dict.fromkeys((".glb", ".gltf", ".vrm"), "a glTF"),
    **dict.fromkeys((".fbx", ".blend", ".dae", ".abc"), "a 3D scene of another program"),
    **dict.fromkeys((".usd", ".usda", ".usdc", ".usdz"), "a USD scene"),
    **dict.fromkeys((".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a"), "a recording"),
    **dict.fromkeys((".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v"), "a video"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif"), "an image"),
    **dict.fromkeys((".txt", ".md", ".srt", ".vtt"), "a text file"),
    **dict.fromkeys((".npz", ".npy"), "a file of arrays"),
    **dict.fromkeys((".csv", ".json"), "a table"),
}


def named_as(path: str | Path) -> str | None:
    """Return what a file is by its name, such as "a recording"; None if that is not known."""
    return NAMED_AS.get(Path(path).suffix.lower())


def other_content(start: bytes, path: str | Path, endings: tuple[str, ...] | None = None) -> str:
    """Return what a file holds if that is known and not what it should; else an empty text.

    Parameters
    ----------
    start : bytes
        Its first START_BYTES.
    path : path
        Its name.
    endings : tuple of str, optional
        Endings of the kinds of files that it may be; by default that of its name.
    """
    if not start:
        return "it is empty"
    allowed = (os.path.splitext(path)[1].lower(),) if endings is None else endings
    for place, mark, content, of in MARKS:
        if start[place:].startswith(mark):
            return "" if set(of) & set(allowed) else f"its content is {content}"
    is_binary = bool(BINARY_ENDINGS & set(allowed))
    return "its content is text" if is_binary and _is_text(start) else ""


def _is_text(start: bytes) -> bool:
    """Whether bytes are the beginning of a text."""
    shown = start.decode("utf-8", "replace").rstrip("\ufffd")  # a character may be cut off
    return "\ufffd" not in shown and all(c.isprintable() or c in "\r\n\t\ufeff" for c in shown)
