"""The two things that run in the background: talkemo itself, and its installation."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import command, head
from .exchange import Animation, obj_text, read_animation, split_rows, to_local
from .keys import animate_keys, keys_to_drive, keys_with_drivers, make_keys
from .objects import (
    find_object,
    half_face,
    part_of,
    problem_of_objects,
    selected_meshes,
)
from .parts import add_part, remove_parts
from .process import Background
from .settings import install_source, own_folder, preferences, python_program
from .sound import add_sound, extend_scene

MIN_OWN_KEYS = 26  # of ARKit's 52, from which on an object's own keys are driven by themselves
NOT_FOUND = "talkemo was not found: install it, or set its path, in the add-on's preferences"


class Refusal(Exception):
    """Why something cannot be done, in words for the user."""


@dataclass(frozen=True, eq=False)
class Target:
    """An object when the run began."""

    name: str
    count: int  # of vertices
    matrix: np.ndarray  # (4, 4), to the world


class AnimateJob:
    """A run of talkemo on the selected objects; `finish` writes what it made.

    Raises Refusal if something is missing.
    """

    title = "talkemo"
    first = "reading the face and the sound"  # what it does before it says something

    def __init__(self, context: Any):
        problem = problem_of_animation(context)
        if problem:
            raise Refusal(problem)
        objects = selected_meshes(context)
        settings = context.scene.talkemo
        self.scene = context.scene.name
        self.own = drives_own(objects, settings.keys)
        self.head, self.frame = settings.head, settings.frame
        self.sound = bpy.path.abspath(settings.sound)
        self.adds_sound = settings.add_sound
        self.targets = [
            Target(item.name, len(item.data.vertices), np.array(item.matrix_world, float))
            for item in objects
        ]
        self.remark_on_failure = half_face(objects)
        self.folder = Path(tempfile.mkdtemp(prefix="talkemo-"))
        self.output = self.folder / "animation.npz"
        try:
            self.background = self._start(context, objects)
        except BaseException:
            self.close()
            raise

    def _start(self, context: Any, objects: list[Any]) -> Background:
        """Export the objects, and start talkemo."""
        settings, render = context.scene.talkemo, context.scene.render
        mesh = command.OWN_FACE
        if not self.own:
            mesh = str(self.folder / "mesh.obj")
            parts = [part_of(item, len(objects) > 1) for item in objects]
            Path(mesh).write_text(obj_text(parts), "utf-8")
        request = command.Request(
            mesh=mesh,
            sound=self.sound,
            output=str(self.output),
            fps=render.fps / render.fps_base,
            emotion=settings.emotion,
            intensity=settings.intensity,
            timeline=bpy.path.abspath(settings.timeline),
            style=settings.style,
            device=settings.device,
            head=self.head != "OFF",
            fill=settings.fill,
            more=settings.more,
        )
        program = find_talkemo(context)
        try:
            arguments = [program, *request.arguments()]
            return Background([arguments], command.environment(), self.folder / "log.txt")
        except ValueError as error:
            raise Refusal(f"The options cannot be read: {error}") from error
        except OSError as error:
            raise Refusal(f"talkemo cannot be started: {error}") from error

    def blocked(self) -> str:
        """Return what the user must do before `finish` can write; empty if nothing."""
        for target in self.targets:
            item = find_object(target.name)
            if item is not None and item.mode == "EDIT":
                return f"Finished: leave edit mode (Tab) on {item.name} to receive the animation"
        return ""

    def finish(self, context: Any) -> list[str]:
        """Write keys, action, head and sound; return in lines what was done. Raises Refusal."""
        if self.background.status:
            said = command.failure(self.background.status, self.background.text())
            raise Refusal(". ".join(filter(None, [*said, self.remark_on_failure])))
        try:
            animation = read_animation(self.output, has_mesh=not self.own)
        except (OSError, ValueError, KeyError) as error:
            raise Refusal(f"{command.TOO_OLD} ({error})") from error
        scene = bpy.data.scenes.get(self.scene) or context.scene
        objects = self._objects()
        frames = self.frame + np.arange(len(animation.weights))
        name = f"talkemo {Path(self.sound).stem}"
        remarks = self._write_keys(objects, animation, frames, name)
        parts = self._add_parts(objects[0], animation, frames, name)
        if animation.one_skin and not self.own:
            remarks.append("the lips are one skin and stay closed: cut the mesh between them")
        if parts:
            remarks.append(f"added: {', '.join(part.name for part in animation.added)}")
        remarks += self._write_head(objects, parts, animation, frames, name)
        if self.adds_sound:
            remarks.append(add_sound(scene, self.sound, self.frame, objects[0].name))
        extend_scene(scene, int(frames[-1]))
        length = f"{len(frames)} frames at {animation.fps:g} fps, from frame {self.frame}"
        said = command.facts(self.background.text(), str(self.output))
        return [length, *filter(None, remarks), *said[1:]]  # the first has the length, too

    def _objects(self) -> list[Any]:
        """The objects as they are now. Raises Refusal if one is gone or has other vertices."""
        objects = [find_object(target.name) for target in self.targets]
        for item, target in zip(objects, self.targets):
            if item is None or len(item.data.vertices) != target.count:
                raise Refusal(f"{target.name} was changed while talkemo ran: start again")
        return objects

    def _write_keys(
        self, objects: list[Any], animation: Animation, frames: np.ndarray, name: str
    ) -> list[str]:
        """Write shape keys and their actions; return remarks."""
        if self.own:
            keys = [keys_to_drive(item) for item in objects]
        else:
            assert animation.targets is not None
            counts = [target.count for target in self.targets]
            displacements = split_rows(animation.targets, counts, axis=1)
            keys = [
                make_keys(item, animation.names, to_local(moved, target.matrix))
                for item, target, moved in zip(objects, self.targets, displacements)
            ]
        remarks = []
        done = set()  # shape keys: two objects may share them
        for item, keys_of in zip(objects, keys):
            data = item.data.shape_keys
            if not keys_of or data.name in done:
                continue
            done.add(data.name)
            moved = animate_keys(item, keys_of, animation.names, frames, animation.weights, name)
            remarks.append(f"{item.name}: {sum(map(len, keys_of.values()))} keys")
            driven = keys_with_drivers(item, keys_of)
            if driven:
                remarks.append(f"drivers keep {', '.join(driven)}: mute them to let them move")
            if moved:
                remarks.append(f"its action {moved} is kept, but not played")
        if self.own:
            found = set().union(*keys)
            missing = [shape for shape in animation.names if shape not in found]
            if missing:
                remarks.append(f"no keys for {', '.join(missing)}")
        return remarks

    def _add_parts(
        self, face: Any, animation: Animation, frames: np.ndarray, name: str
    ) -> list[Any]:
        """Add what the face lacks, with keys and actions; return the objects."""
        remove_parts([target.name for target in self.targets])
        parts = []
        for part in animation.added:
            item = add_part(face, self.targets[0].matrix, part, self.folder)
            keys_of = make_keys(item, animation.names, part.targets)
            if keys_of:
                animate_keys(item, keys_of, animation.names, frames, animation.weights, name)
            parts.append(item)
        return parts

    def _write_head(
        self,
        objects: list[Any],
        parts: list[Any],
        animation: Animation,
        frames: np.ndarray,
        name: str,
    ) -> list[str]:
        """Write the rotation of the head, which added parts follow; return remarks."""
        head.remove_empty(objects)
        if self.head == "OFF" or animation.head is None:
            return []
        armature, bone = next(
            (found for item in objects if (found := head.head_bone(item))[1]), (None, "")
        )
        if bone and self.head != "EMPTY":
            remark = head.turn_bone(armature, bone, animation, frames, not self.own)
            for item in parts:
                head.follow_bone(item, armature, bone)
            return [remark or f"the head turns by the bone {bone}"]
        if self.head == "BONE" or self.own:
            return ["no armature with a bone called head: the head stays still"]
        matrices = [target.matrix for target in self.targets]
        empty = head.turn_by_empty(objects, matrices, animation, frames, name)
        for item in parts:
            head.follow_empty(item, empty, np.eye(4), np.ones(len(item.data.vertices)))
        return [f"the head turns by the empty {empty.name}"]

    def close(self) -> None:
        """Remove the temporary files."""
        shutil.rmtree(self.folder, ignore_errors=True)


class InstallJob:
    """An installation of talkemo into the add-on's own folder. Raises Refusal."""

    title = "Installing talkemo"
    first = "making an environment"

    def __init__(self, context: Any):
        problem = problem_of_installation(context)
        if problem:
            raise Refusal(problem)
        self.folder = Path(tempfile.mkdtemp(prefix="talkemo-"))
        environment = own_folder()
        environment.parent.mkdir(parents=True, exist_ok=True)
        try:
            commands: list[Sequence[str]] = command.install_commands(
                python_program(),
                environment,
                install_source(context),
                preferences(context).pip_options,
            )
            self.background = Background(commands, command.environment(), self.folder / "log.txt")
        except (OSError, ValueError) as error:
            self.close()
            raise Refusal(f"Python cannot be started: {error}") from error

    def blocked(self) -> str:
        """Nothing can hold the end up."""
        return ""

    def finish(self, context: Any) -> list[str]:
        """Return in a line where talkemo is now. Raises Refusal if it is not there."""
        program = command.program_in(own_folder())
        if self.background.status or not program.is_file():
            said = command.last_line(self.background.text())
            raise Refusal(f"talkemo was not installed: {said}")
        return [f"talkemo is installed: {program}"]

    def close(self) -> None:
        """Remove the temporary files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def drives_own(objects: Sequence[Any], choice: str) -> bool:
    """Whether objects' own keys are driven, as chosen or because they have most of ARKit's."""
    if choice != "AUTO":
        return choice == "OWN"
    return any(len(keys_to_drive(item)) >= MIN_OWN_KEYS for item in objects)


def find_talkemo(context: Any) -> str:
    """Return the program talkemo. Raises Refusal if there is none."""
    stated = bpy.path.abspath(preferences(context).command)
    program = command.find_program(stated, own_folder())
    if program is None:
        raise Refusal(f"There is no talkemo at {stated}" if stated else NOT_FOUND)
    return program


def problem_of_animation(context: Any) -> str:
    """Return in words what is missing for a run; empty if nothing."""
    objects, settings = selected_meshes(context), context.scene.talkemo
    problem = problem_of_objects(objects, drives_own(objects, settings.keys))
    if problem:
        return problem
    if not settings.sound:
        return "Choose a sound file"
    for path in filter(None, (settings.sound, settings.timeline)):
        if not Path(bpy.path.abspath(path)).is_file():
            return f"There is no file {bpy.path.abspath(path)}"
    try:
        find_talkemo(context)
    except Refusal as refusal:
        return str(refusal)
    return ""


def problem_of_installation(context: Any) -> str:
    """Return in words why talkemo cannot be installed; empty if it can."""
    if not getattr(bpy.app, "online_access", True):
        return "Allow online access first: Preferences > System > Network"
    source = install_source(context)
    if not source:
        return "Choose what to install from: a folder with talkemo's source, or a wheel"
    if not Path(source).exists():
        return f"There is nothing at {source}"
    return ""
