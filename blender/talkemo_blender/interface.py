"""The panel, the operators and their progress."""

import atexit
import textwrap
from typing import Any

import bpy

from . import settings
from .command import last_line
from .jobs import AnimateJob, InstallJob, Refusal, problem_of_animation, problem_of_installation

TIMER_SECONDS = 0.25  # between looks at what runs
CHARACTER_PIXELS = 8  # mean width of a character, at a scale of 1
MARGIN_CHARACTERS = 8  # icon and borders of a line
running: Any = None  # the job that runs; one at a time
last_run: list[str] = []  # what the last one that ended well has said


class BackgroundOperator:
    """Starts a job, looks at it by a timer, and reports how it ended; Esc cancels it."""

    report: Any  # of Blender's operators
    job_class: Any = None
    timer: Any = None

    def execute(self, context: Any) -> set[str]:
        """Run to the end, for scripts; called by Blender."""
        if not self._start(context):
            return {"CANCELLED"}
        running.background.wait()
        return self._end(context)

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Start from the window, which stays usable; called by Blender."""
        if not self._start(context):
            return {"CANCELLED"}
        manager = context.window_manager
        self.timer = manager.event_timer_add(TIMER_SECONDS, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Look at the job; called by Blender for each event."""
        if running is None:  # the add-on was taken away
            return self._leave(context, {"CANCELLED"})
        background = running.background
        if event.type == "ESC" and event.value == "PRESS":
            background.cancel()
            return {"RUNNING_MODAL"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        show_progress(context, progress_text())
        if not background.poll() or (not background.cancelled and running.blocked()):
            return {"PASS_THROUGH"}
        return self._leave(context, self._end(context))

    def cancel(self, context: Any) -> None:
        """End the job with the window or the file; called by Blender."""
        self._leave(context, set())
        end_running()

    def _start(self, context: Any) -> bool:
        """Start the job, or report why not."""
        global running
        if running is not None:
            self.report({"ERROR"}, "talkemo runs already")
            return False
        try:
            running = self.job_class(context)
        except Refusal as refusal:
            self.report({"ERROR"}, str(refusal))
            return False
        return True

    def _end(self, context: Any) -> set[str]:
        """Let the job write what it made, and report it."""
        global running
        job, running = running, None
        try:
            if job.background.cancelled:
                self.report({"WARNING"}, f"{job.title}: cancelled")
                return {"CANCELLED"}
            last_run[:] = job.finish(context)
            self.report({"INFO"}, ". ".join(last_run))
            return {"FINISHED"}
        except Refusal as refusal:
            self.report({"ERROR"}, str(refusal))
            return {"CANCELLED"}
        finally:
            job.close()

    def _leave(self, context: Any, result: set[str]) -> set[str]:
        """Take timer and progress away."""
        if self.timer is not None:
            context.window_manager.event_timer_remove(self.timer)
            self.timer = None
        show_progress(context, None)
        return result


class TALKEMO_OT_animate(BackgroundOperator, bpy.types.Operator):
    """Make the selected face speak the sound"""

    bl_idname = "talkemo.animate"
    bl_label = "Make It Speak"
    bl_options = {"UNDO"}  # noqa: RUF012 (as Blender has it)
    job_class = AnimateJob


class TALKEMO_OT_install(BackgroundOperator, bpy.types.Operator):
    """Install talkemo into a folder of the add-on"""

    bl_idname = "talkemo.install"
    bl_label = "Install talkemo"
    job_class = InstallJob


class TALKEMO_OT_cancel(bpy.types.Operator):
    """Stop what runs"""

    bl_idname = "talkemo.cancel"
    bl_label = "Cancel"

    def execute(self, context: Any) -> set[str]:
        """Ask the job to end; called by Blender."""
        if running is not None:
            running.background.cancel()
        return {"FINISHED"}


class TALKEMO_PT_panel(bpy.types.Panel):
    """The panel in the sidebar of the 3D view."""

    bl_idname = "TALKEMO_PT_panel"
    bl_label = "talkemo"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "talkemo"

    def draw(self, context: Any) -> None:
        """Draw the panel; called by Blender."""
        layout, scene = self.layout, context.scene.talkemo
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        for name in ("sound", "emotion", "intensity", "timeline"):
            row = column.row()
            row.enabled = name != "emotion" or not scene.timeline
            row.prop(scene, name)
        for names in (("keys", "head", "fill", "frame", "add_sound"), ("style", "device", "more")):
            column = layout.column()
            for name in names:
                column.prop(scene, name)
        draw_run(context, layout, TALKEMO_OT_animate.bl_idname, problem_of_animation(context))


class TALKEMO_PT_last_run(bpy.types.Panel):
    """What was done last, below the panel."""

    bl_idname = "TALKEMO_PT_last_run"
    bl_label = "Last Run"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "talkemo"
    bl_parent_id = TALKEMO_PT_panel.bl_idname

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Whether there was a run; called by Blender."""
        return bool(last_run)

    def draw(self, context: Any) -> None:
        """Draw what it said; called by Blender."""
        for line in last_run:
            draw_lines(context, self.layout, line, "DOT")


def draw_run(context: Any, layout: Any, operator: str, problem: str) -> None:
    """Draw a button with what is missing for it, or the progress of what runs."""
    if running is not None:
        draw_lines(context, layout, progress_text(), "TIME")
        layout.operator(TALKEMO_OT_cancel.bl_idname, icon="CANCEL")
        return
    if problem:
        draw_lines(context, layout, problem, "INFO")
    row = layout.row()
    row.enabled = not problem
    row.operator_context = "INVOKE_DEFAULT"
    row.operator(operator, icon="PLAY")


def draw_lines(context: Any, layout: Any, text: str, icon: str) -> None:
    """Draw a text in lines that fit into the panel."""
    scale = context.preferences.system.ui_scale * CHARACTER_PIXELS
    columns = max(20, int(context.region.width / scale) - MARGIN_CHARACTERS)
    column = layout.column(align=True)
    for number, line in enumerate(textwrap.wrap(text, columns)):
        column.label(text=line, icon="BLANK1" if number else icon)


def draw_preferences(preferences: Any, context: Any) -> None:
    """Draw the add-on's preferences."""
    layout = preferences.layout
    for name in ("command", "source", "pip_options"):
        layout.prop(preferences, name)
    draw_run(context, layout, TALKEMO_OT_install.bl_idname, problem_of_installation(context))


def progress_text() -> str:
    """Return what runs, since when, and the last that it said."""
    if running is None:
        return ""
    background = running.background
    if background.cancelled:
        return f"{running.title}: cancelling"
    blocked = running.blocked() if background.status is not None else ""
    said = blocked or last_line(background.text()) or running.first
    return f"{running.title}, {background.seconds:.0f} s. {said[:120]} (Esc cancels)"


def show_progress(context: Any, text: str | None) -> None:
    """Show a text in the status bar, and draw the panels anew; None takes it away."""
    if context.workspace is not None:
        context.workspace.status_text_set(text)
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "PREFERENCES"):
                area.tag_redraw()


def end_running() -> None:
    """End what runs, without writing anything."""
    global running
    if running is not None:
        running.background.kill()
        running.close()
        running = None


CLASSES = (
    TALKEMO_OT_animate,
    TALKEMO_OT_install,
    TALKEMO_OT_cancel,
    TALKEMO_PT_panel,
    TALKEMO_PT_last_run,
)


def register() -> None:
    """Register the settings, the operators and the panel."""
    settings.register()
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    atexit.register(end_running)


def unregister() -> None:
    """Take all of it away, and end what runs."""
    end_running()
    atexit.unregister(end_running)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    settings.unregister()
