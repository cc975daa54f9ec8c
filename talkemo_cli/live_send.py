"""talkemo live --to: frames of a microphone, of stdin or of a recording, sent to other programs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from talkemo import InputError
from talkemo.formats.target_names import OWN_CURVES
from talkemo.pipelines.options import StreamOptions

from .console import console

if TYPE_CHECKING:
    from talkemo.pipelines.live_send import LiveReport
    from talkemo.pipelines.live_targets import LiveTarget


def send_frames(
    face: Path, audio: Path | None, to: list[str], microphone: str | None, options: StreamOptions
) -> None:
    """Send frames until the audio ends, or Ctrl-C.

    Parameters
    ----------
    face : Path
        A mesh, or - for the canonical face.
    audio : Path or None
        A recording, - for stdin, or None for a microphone.
    to : list of str
        Addresses of the receivers.
    microphone : str or None
        Its name or number; None for the system's choice.
    options : StreamOptions
        How the face acts.
    """
    import talkemo
    from talkemo.audio.microphone import find_microphone, open_microphone
    from talkemo.pipelines.live_send import LiveReport, as_spoken, send_live, warm_up
    from talkemo.pipelines.live_targets import open_targets, read_addresses
    from talkemo.pipelines.own_targets import own_shapes
    from talkemo.pipelines.stream import stream_latency

    addresses = read_addresses(to)
    _check_audio(audio, microphone, options)
    if audio is None:
        find_microphone(microphone)
    takes_own = any(address.kind == OWN_CURVES for address in addresses)
    if options.shape_map is not None and not takes_own:
        raise InputError(
            "--map is for the character's own shapes", "send them: --to ws://:PORT/own"
        )
    options = replace(options, targets="own" if takes_own else "arkit")
    models = talkemo.load_models(options.weights, device=options.device)
    latency = round(stream_latency(models, options.fps), 3)
    with ExitStack() as stack:
        bind = partial(talkemo.bind, face, hint=options.hint, models=models, cache=options.cache)
        binding = None
        own_names: tuple[str, ...] = ()
        if takes_own:  # the first message to a receiver names them
            binding = bind()
            own, _ = own_shapes(binding, options.targets, options.shape_map)
            own_names = () if own is None else own.names
        targets = open_targets(addresses, options.fps, latency, stack, own_names)
        binding = binding or bind()
        warm_up(binding, options, models, {address.kind for address in addresses})
        heard = stack.enter_context(open_microphone(microphone)) if audio is None else audio
        stream = talkemo.stream(binding, heard, options, models=models)
        stream.audio = as_spoken(stream.audio)
        console.message(f"frames come about {latency:.2f} s after their audio; Ctrl-C ends them")
        names = [str(target.address) for target in targets]
        console.result({"to": names, "fps": options.fps, "latency": latency}, names)
        report = LiveReport()
        try:
            send_live(stream, targets, report=report)
        finally:
            console.messages([*_facts(report, targets), *stream.notes])


def _check_audio(audio: Path | None, microphone: str | None, options: StreamOptions) -> None:
    """Raise InputError for options that contradict where the audio comes from."""
    if options.raw is not None and str(audio) != "-":
        raise InputError("--raw is for audio from stdin", "name it: - in the place of a file")
    if audio is not None and microphone is not None:
        raise InputError("audio and a --microphone", "leave one out")


def _facts(report: LiveReport, targets: list[LiveTarget]) -> list[str]:
    """What was sent, and what was not."""
    facts = [
        f"{report.frames} frames of {report.seconds:.0f} s of audio, {report.delay:.2f} s behind it"
    ]
    unsent = [(target.unsent, target.address) for target in targets if target.unsent]
    return [*facts, *(f"{count} frames did not reach {address}" for count, address in unsent)]
