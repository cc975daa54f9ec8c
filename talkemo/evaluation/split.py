"""All metrics of a set of weights on a split of the corpora."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..data.captures import StepProgress
from ..data.corpora import CORPORA, present_corpora, read_corpus, require_corpora
from ..data.phones import Phone
from ..data.recordings import SPLITS
from ..errors import InputError
from ..weights.files import WEIGHT_STAGES
from ..weights.models import Models
from . import emotion
from .lips import evaluate_lips
from .map_error import evaluate_map
from .options import CorpusOptions
from .voice import evaluate_voice

DEFAULT_SPLIT = "dev"
TEST_SPLIT = "test"


def evaluate_split(
    corpora: CorpusOptions,
    models: Models,
    *,
    split: str = DEFAULT_SPLIT,
    against: Models | None = None,
    phones: dict[str, list[Phone]] | None = None,
    progress: StepProgress | None = None,
    notice: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure the talking model, emotion transfer and the geometry map on a split.

    Parameters
    ----------
    corpora : CorpusOptions
        With the folders of the corpora and of their captures.
    models, progress
        As in `load_captures`.
    split : str
        One of SPLITS. Corpora of acted emotion that lack it are skipped, unless they are among
        EMOTION_CORPORA and it is `dev`.
    against : Models, optional
        Models whose lips are measured too.
    phones
        As in `evaluate_lips`.
    notice : callable, optional
        Called with a message about each skipped corpus.

    Returns
    -------
    dict
        Results of `evaluate_lips` as `lips` and `lips_against`, of `evaluate_emotion` as a list
        `emotions`, of `evaluate_voice` as `voice`, and of `evaluate_map` as `map`.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split '{split}'", f"choose from {', '.join(SPLITS)}")
    data, cache = corpora.data, corpora.captures
    assert data is not None and cache is not None
    _check_before_fits(data, models, against, split)
    acted = _acted_corpora(data, notice)
    common: dict[str, Any] = {"jobs": corpora.jobs, "progress": progress}
    lips, lips_against = (
        measured and evaluate_lips(data, cache, measured, split=split, phones=phones, **common)
        for measured in (models, against)
    )
    actors = {}
    for corpus in acted:
        with _skipping_unusable(corpus, split, notice):
            actors[corpus] = emotion.changes_of_actors(data, cache, models, corpus, **common)
    emotions = []
    for corpus in actors:
        with _skipping_unusable(corpus, split, notice):
            chosen: dict[str, Any] = {"corpus": corpus, "split": split, "actors": actors}
            emotions.append(emotion.evaluate_emotion(data, cache, models, **chosen, **common))
    return {
        "lips": lips,
        "lips_against": lips_against,
        "emotions": emotions,
        "voice": _voice(data, models, split, progress, notice),
        "map": evaluate_map(data, cache, models, **common),
    }


def _voice(
    data: Path,
    models: Models,
    split: str,
    progress: StepProgress | None,
    notice: Callable[[str], None] | None,
) -> dict[str, Any] | None:
    """Measure the voice model; None, with a notice, if the set of weights has none."""
    if models.can_use("voice"):
        return evaluate_voice(data, models, split=split, progress=progress)
    if notice:
        notice("no weights of the stage voice: voices are not measured")
    return None


def _acted_corpora(data: Path, notice: Callable[[str], None] | None) -> tuple[str, ...]:
    """Return the corpora of acted emotion; the known ones that are missing are reported."""
    acted = emotion.emotion_corpora(data)
    missing = [name for name in emotion.EMOTION_CORPORA if name not in acted]
    if notice and missing:
        notice(f"{', '.join(missing)}: not in {data}, emotions are not measured there")
    return acted


@contextmanager
def _skipping_unusable(
    corpus: str, split: str, notice: Callable[[str], None] | None
) -> Iterator[None]:
    """Report a corpus that cannot be measured; raise for EMOTION_CORPORA on `dev`."""
    try:
        yield
    except InputError as error:
        if split == DEFAULT_SPLIT and corpus in emotion.EMOTION_CORPORA:
            raise
        if notice:
            notice(f"{error.message}: left out")


def _check_before_fits(data: Path, models: Models, against: Models | None, split: str) -> None:
    """Raise InputError for missing corpora, unusable weights and a split that no corpus has."""
    corpora = require_corpora(data, present_corpora(data) or CORPORA)
    for stage in WEIGHT_STAGES:
        if stage != "voice" or models.can_use(stage):
            models.check(stage)
    if against is not None:
        against.check("talking")
    if split != TEST_SPLIT:  # all known corpora have the other splits
        return
    splits = {recording.split for corpus in corpora for recording in read_corpus(corpus, data)}
    if split not in splits:
        raise InputError(
            f"{data}: no recordings of the split '{split}'",
            f"choose from {', '.join(sorted(splits))}",
        )
