"""Sets of weights on the Hugging Face Hub: repositories with a `registry.toml` and its files.

An address is `hf://owner/repository@revision`; the revision is a branch, a tag or a commit, `main`
if omitted. A set is downloaded when it is first used, and then read from the Hub's cache without
any request. The settings of the Hub's client apply: HF_TOKEN, HF_HUB_OFFLINE, HF_ENDPOINT, HF_HOME
and others.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, TalkemoError
from ..files.cache import sha256
from .registry import MAX_REGISTRY_BYTES, REGISTRY_NAME, RegistryEntry, read_registry
from .weight_set import WeightSet

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN_BRANCH = "main"
# Name of an owner or a repository.
HUB_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
HUB_ADDRESS = re.compile(
    rf"hf://(?P<repository>{HUB_NAME}/{HUB_NAME})"
    r"(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9_./-]{0,249}))?"
)
COMMIT_HASH = re.compile(r"[0-9a-f]{40}")
MODEL_CARD = "README.md"
LOG_IN_HINT = "log in with: hf auth login, or set HF_TOKEN"
OWNER_HINT = "ask the set's owner for one that talkemo wrote"
# What errors of huggingface_hub mean, and what to do; a subclass before its base class.
HUB_ERRORS = {
    "OfflineModeIsEnabled": (
        "the Hub cannot be reached while HF_HUB_OFFLINE is set",
        "unset it",
    ),
    "GatedRepoError": (
        "its owner gives access on request",
        f"ask for it on {{page}}, then {LOG_IN_HINT}",
    ),
    "RepositoryNotFoundError": (
        "no such repository, or a private one",
        f"is the name right? For a private one {LOG_IN_HINT}",
    ),
    "RevisionNotFoundError": (
        "no such revision",
        "name a branch, a tag or a commit of that repository",
    ),
}
FetchProgress = Callable[[int, int, str], None]  # bytes done, bytes in all, name of the next file


def parse_address(address: str) -> tuple[str, str | None]:
    """Return the repository and the revision, if any, of an address. Raises InputError."""
    match = HUB_ADDRESS.fullmatch(address)
    repository, revision = match.groups() if match else ("", None)
    components = (revision or MAIN_BRANCH).split("/")
    if (
        not match
        or ".." in address
        or "--" in repository
        or repository.endswith(".git")
        or "" in components
        or "." in components
    ):
        raise InputError(
            f"{address}: not the address of a repository on the Hub",
            "write hf://owner/repository, or hf://owner/repository@revision",
        )
    return repository, revision


def cached_set(address: str) -> WeightSet:
    """Return a set as it was last downloaded, or else download it; raises as `fetch` does."""
    from huggingface_hub import constants

    repository, revision = parse_address(address)
    registry = _find_in_cache(repository, REGISTRY_NAME, revision or MAIN_BRANCH)
    if registry is not None:
        cached = WeightSet(address, registry.parent, _read_entries(address, registry))
        if all((cached.folder / entry.file).is_file() for entry in cached.entries.values()):
            return cached
    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f"{address}: not in the Hub's cache, and HF_HUB_OFFLINE is set",
            f"unset it and run: talkemo weights fetch {address}",
        )
    return fetch(address)


def fetch(address: str, progress: FetchProgress | None = None) -> WeightSet:
    """Return a set as the Hub has it now, after downloading new and damaged files.

    The registry and the sizes and checksums that the Hub states are checked before any weights are
    downloaded. The cache stores a revision's commit only after all files were checked, so an
    incomplete or refused set does not replace a good one.

    Raises InputError for an unusable address, repository, revision or registry, and for a file that
    differs from the registry; TalkemoError if the Hub cannot be reached or fails.
    """
    repository, revision = parse_address(address)
    revision = revision or MAIN_BRANCH
    with hub_client(address) as api:
        commit, hub_files = _list_files(api, address, repository, revision)
        if (_hub_file(address, hub_files, REGISTRY_NAME).size or 0) > MAX_REGISTRY_BYTES:
            raise InputError(
                f"{address}: its {REGISTRY_NAME} is too large",
                "this is not a set of weights of talkemo",
            )
        registry = Path(
            api.hf_hub_download(repository, REGISTRY_NAME, revision=commit, force_download=True)
        )
        entries = _read_entries(address, registry)
        for entry in entries.values():
            hub_file = _hub_file(address, hub_files, entry.file)
            size_differs = hub_file.size not in (None, entry.bytes)
            if size_differs or not _may_have_digest(hub_file, entry.sha256):
                raise _differs_from_registry(address, entry)
        done, total = 0, sum(entry.bytes for entry in entries.values())
        # Not by `snapshot_download`: it reports no progress by file, and returns what is cached
        # without an error if the Hub fails.
        for entry in entries.values():
            if progress:
                progress(done, total, entry.file)
            if _download(api, repository, commit, entry.file, entry.sha256) is None:
                raise _differs_from_registry(address, entry)
            done += entry.bytes
        # Downloading by the revision's name makes the cache store its commit.
        api.hf_hub_download(repository, REGISTRY_NAME, revision=revision)
        if progress:
            progress(done, total, REGISTRY_NAME)
    return WeightSet(address, registry.parent, entries)


def fetch_file(address: str, name: str, digest: str) -> Path:
    """Return the path of one file of a repository, downloaded if it is not in the cache.

    Raises InputError if the repository lacks the file or its sha256 is not `digest`; TalkemoError
    if the Hub cannot be reached or fails.
    """
    repository, revision = parse_address(address)
    revision = revision or MAIN_BRANCH
    path = _find_in_cache(repository, name, revision)
    if path is not None and sha256(path) == digest:
        return path
    with hub_client(address) as api:
        _, hub_files = _list_files(api, address, repository, revision)
        if _may_have_digest(_hub_file(address, hub_files, name), digest):
            path = _download(api, repository, revision, name, digest)
            if path is not None:
                return path
    raise InputError(
        f"{address}: its file {name} is not the expected one",
        "name another repository or revision",
    )


def _find_in_cache(repository: str, name: str, revision: str) -> Path | None:
    """Return the path of a file in the Hub's cache, or None; makes no request."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _read_entries(address: str, registry: Path) -> dict[str, RegistryEntry]:
    """Return the entries of a repository's registry. Raises InputError with the address."""
    try:
        entries = read_registry(registry)
    except InputError as error:
        reason = error.message.removeprefix(f"{registry}: ")
        raise InputError(f"{address}: its {REGISTRY_NAME} is {reason}", OWNER_HINT) from None
    if not entries:
        raise InputError(f"{address}: its {REGISTRY_NAME} lists no files", OWNER_HINT)
    return entries


def _list_files(
    api: HfApi, address: str, repository: str, revision: str
) -> tuple[str, dict[str, Any]]:
    """Return the commit of a revision, and what the Hub states of its files, by name.

    One request, before any download: downloads retry an unreachable Hub for about 20 s.
    """
    try:
        info = api.model_info(repository, revision=revision, files_metadata=True)
    except (LookupError, TypeError, ValueError):  # the answer does not describe a repository
        info = None
    if info is None or not COMMIT_HASH.fullmatch(str(info.sha)):
        raise TalkemoError(
            f"{address}: {api.endpoint} does not answer as the Hub does", "is HF_ENDPOINT right?"
        )
    return str(info.sha), {file.rfilename: file for file in info.siblings or []}


def _hub_file(address: str, hub_files: dict[str, Any], name: str) -> Any:
    """Return what the Hub states of a file. Raises InputError if the repository lacks it."""
    if name not in hub_files:
        raise InputError(
            f"{address}: has no {name}", "this is not a whole set of weights of talkemo"
        )
    return hub_files[name]


def _may_have_digest(hub_file: Any, digest: str) -> bool:
    """Return whether a file can have a sha256; the Hub states those of its large files only."""
    return hub_file.lfs is None or hub_file.lfs.sha256 == digest


def _differs_from_registry(address: str, entry: RegistryEntry) -> InputError:
    return InputError(
        f"{address}: its file {entry.file} is not the one that its {REGISTRY_NAME} lists",
        "it was damaged or replaced; name an older revision, or ask the set's owner",
    )


def _download(api: HfApi, repository: str, revision: str, name: str, digest: str) -> Path | None:
    """Return the path of a file in the cache, or None if its sha256 is not the expected one.

    The client does not check files that are in the cache: damaged ones are downloaded again.
    """
    for force in (False, True):
        path = Path(api.hf_hub_download(repository, name, revision=revision, force_download=force))
        if sha256(path) == digest:
            return path
    return None


@contextmanager
def hub_client(address: str) -> Iterator[HfApi]:
    """Yield the Hub's client without its warnings and progress bars.

    Whatever it raises in the block becomes a TalkemoError with one clear line.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    from .. import __version__

    logger = logging.getLogger("huggingface_hub")
    level, bars = logger.level, not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        disable_progress_bars()
        try:
            yield HfApi(library_name="talkemo", library_version=__version__)
        except TalkemoError:
            raise
        except Exception as error:
            raise _explain(address, error) from error
        finally:
            logger.setLevel(level)
            if bars:
                enable_progress_bars()


def _explain(address: str, error: BaseException) -> TalkemoError:
    """Return the error that explains an exception of the Hub's client to the user."""
    from huggingface_hub import constants, utils

    reason = _first_line(str(error)) or type(error).__name__
    if reason.startswith(f"Invalid metadata in {MODEL_CARD}"):
        return InputError(
            f"{MODEL_CARD}: the Hub does not accept the metadata at its top",
            "correct it, or leave it out",
        )
    if isinstance(error, utils.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _explain(address, error.__cause__)  # the client only says that nothing is cached
    page = f"{constants.ENDPOINT}/{parse_address(address)[0]}"
    for kind, (meaning, hint) in HUB_ERRORS.items():
        if isinstance(error, getattr(utils, kind)):
            return InputError(f"{address}: {meaning}", hint.format(page=page))
    if getattr(error, "response", None) is not None:
        return _explain_status(address, error)
    if type(error).__module__.startswith("http"):  # httpx or httpx2, as the client's version has it
        return TalkemoError(
            f"{address}: the Hub cannot be reached at {constants.ENDPOINT} ({reason})",
            "is there a connection? A set that was fetched before needs none",
        )
    if error.__cause__ is not None:
        return _explain(address, error.__cause__)
    if isinstance(error, OSError) and error.filename:
        return TalkemoError(
            f"{error.filename}: {error.strerror}",
            "HF_HOME names another folder for the Hub's cache",
        )
    return TalkemoError(
        f"{address}: the Hub's client failed ({reason})",
        "try again, or with --debug for the traceback",
    )


def _explain_status(address: str, error: Any) -> TalkemoError:
    """Return the error for an answer of the Hub with an error status."""
    status = error.response.status_code
    if status in (401, 403):
        return InputError(
            f"{address}: the Hub refuses access ({status})",
            f"{LOG_IN_HINT}; a token may lack the permission",
        )
    answer = _first_line(getattr(error, "server_message", None) or str(error))
    return TalkemoError(
        f"{address}: the Hub answers with an error ({status}: {answer})",
        "try again later"
        if status == 429 or status >= 500
        else "run it again with --debug for the whole answer",
    )


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:200] if lines else ""
