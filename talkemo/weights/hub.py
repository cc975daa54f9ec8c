"""Sets of weights on the Hugging Face Hub: a repository with a `registry.toml` and the files that it lists.

`hf://owner/repository@revision` names one; the revision is a branch, a tag or a commit, and `main` where it is left out.
A set is downloaded when it is first used and read from the Hub's cache ever after, without a request. Only files that
the registry lists are downloaded. The Hub's client has its own settings, which all hold here: HF_TOKEN, HF_HUB_OFFLINE,
HF_ENDPOINT, HF_HOME and others.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError, TalkemoError
from ..files.cache import sha256
from .registry import DIGEST, HUB_PREFIX, LARGEST_REGISTRY, REGISTRY_NAME, WeightSet, read_registry

MAIN = "main"  # the revision of an address without one
NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"  # of an owner or a repository
ADDRESS = re.compile(
    rf"hf://(?P<repository>{NAME}/{NAME})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9_./-]{{0,249}}))?"
)
COMMIT = re.compile(r"[0-9a-f]{40}")
README = "README.md"
HTTP_LIBRARIES = (
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "requests",
)  # that versions of the Hub's client use
Progress = Callable[[int, int, str], None]  # called with bytes done, bytes in all and what is next


def parse_address(text: str) -> tuple[str, str | None]:
    """Repository and revision, None where none is named, of `hf://owner/repository@revision`. Raises InputError."""
    match = ADDRESS.fullmatch(text)
    repository, revision = match.groups() if match else ("", None)
    parts = (revision or MAIN).split("/")
    if (
        not match
        or ".." in text
        or "--" in repository
        or repository.endswith(".git")
        or "" in parts
        or "." in parts
    ):
        raise InputError(
            f"{text}: not the address of a repository on the Hub",
            "write hf://owner/repository, or hf://owner/repository@revision",
        )
    return repository, revision


def cached_set(text: str) -> WeightSet:
    """The set of an address as it was last downloaded; downloaded now if it never was. Raises as `fetch` does."""
    from huggingface_hub import constants

    repository, revision = parse_address(text)
    registry = _in_cache(repository, REGISTRY_NAME, revision or MAIN)
    if registry is not None:
        found = WeightSet(text, registry.parent, _read_entries(text, registry))
        if all((registry.parent / entry["file"]).is_file() for entry in found.entries.values()):
            return found
    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f"{text}: not in the Hub's cache, and HF_HUB_OFFLINE is set",
            f"unset it and run: talkemo weights fetch {text}",
        )
    return fetch(text)


def fetch(text: str, progress: Progress | None = None) -> WeightSet:
    """The set of an address as the Hub has it now; files that the cache lacks, or has damaged, are downloaded.

    progress: called with bytes done, bytes in all and the name of the next file
    Raises InputError for an address, repository, revision or registry that cannot be used, and for files that differ from
    the registry; TalkemoError where the Hub cannot be reached or fails.
    """
    repository, revision = parse_address(text)
    with client(text) as hub:
        about = hub.about(repository, REGISTRY_NAME, revision or MAIN)
        if (about.size or 0) > LARGEST_REGISTRY:
            raise InputError(
                f"{text}: its {REGISTRY_NAME} is too large",
                "this is not a set of weights of talkemo",
            )
        commit = str(about.commit_hash)
        if not COMMIT.fullmatch(commit):
            raise TalkemoError(
                f"{text}: {hub.api.endpoint} does not answer as the Hub does",
                "is HF_ENDPOINT right?",
            )
        registry = hub.download(repository, REGISTRY_NAME, commit, again=True)
        entries = _read_entries(text, registry)
        done, total = 0, sum(entry["bytes"] for entry in entries.values())
        for entry in entries.values():
            if progress:
                progress(done, total, entry["file"])
            _fetch_listed(hub, text, repository, commit, entry)
            done += entry["bytes"]
        # Only now does the cache learn what the revision is: a set that arrives in part, or is refused, is never used.
        hub.download(repository, REGISTRY_NAME, revision or MAIN)
        if progress:
            progress(done, total, REGISTRY_NAME)
    return WeightSet(text, registry.parent, entries)


def fetch_file(text: str, name: str, digest: str) -> Path:
    """A file of a repository by its name and its sha256: from the cache, else downloaded.

    Raises InputError for another file, and TalkemoError where the Hub cannot be reached or fails.
    """
    repository, revision = parse_address(text)
    cached = _in_cache(repository, name, revision or MAIN)
    if cached is not None and sha256(cached) == digest:
        return cached
    with client(text) as hub:
        if not _is_another(hub.about(repository, name, revision or MAIN), digest):
            path = hub.download(repository, name, revision or MAIN, again=cached is not None)
            if sha256(path) == digest:
                return path
    raise InputError(
        f"{text}: its file {name} is another than the one wanted",
        "name another repository or revision",
    )


def _in_cache(repository: str, name: str, revision: str) -> Path | None:
    """A file in the Hub's cache, without any request; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _read_entries(text: str, registry: Path) -> dict[str, dict[str, Any]]:
    """The entries of a repository's registry. Raises InputError naming the address where it cannot be used."""
    try:
        entries = read_registry(registry)
    except InputError as error:
        reason = error.message.removeprefix(f"{registry}: ")
        raise InputError(
            f"{text}: its {REGISTRY_NAME} is {reason}",
            "ask the set's owner for one that talkemo wrote",
        ) from None
    if not entries:
        raise InputError(
            f"{text}: its {REGISTRY_NAME} lists no files",
            "ask the set's owner for one that talkemo wrote",
        )
    return entries


def _is_another(about: Any, digest: str) -> bool:
    """Whether the Hub itself says that a file has another sha256; it knows those in its large file storage."""
    return DIGEST.fullmatch(about.etag or "") is not None and about.etag != digest


def _fetch_listed(
    hub: _Client, text: str, repository: str, commit: str, entry: dict[str, Any]
) -> None:
    """See to it that a listed file is in the cache. Raises InputError where it is not the one that is listed."""
    name, size, digest = entry["file"], entry["bytes"], entry["sha256"]
    cached = _in_cache(repository, name, commit)
    if cached is not None and cached.stat().st_size == size and sha256(cached) == digest:
        return
    # The Hub says a file's size before it is downloaded.
    about = hub.about(repository, name, commit)
    differs = about.size not in (None, size) or _is_another(about, digest)
    if not differs:
        path = hub.download(repository, name, commit, again=cached is not None)
        if (
            cached is None and sha256(path) != digest
        ):  # another commit's copy in the cache may be damaged
            path = hub.download(repository, name, commit, again=True)
        differs = sha256(path) != digest
    if differs:
        raise InputError(
            f"{text}: its file {name} is not the one that its {REGISTRY_NAME} lists",
            "it was damaged or replaced; name an older revision, or ask the set's owner",
        )


class _Client:
    """The Hub's client, as far as it is needed here. Its errors are its own, see `_client`."""

    def __init__(self) -> None:
        from huggingface_hub import HfApi

        from .. import __version__

        self.api = HfApi(library_name="talkemo", library_version=__version__)

    def about(self, repository: str, name: str, revision: str) -> Any:
        """Size, ETag and commit of a file, by one request: unlike a download it is not tried again and again."""
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(repository, name, revision=revision, endpoint=self.api.endpoint)
        return self.api.get_hf_file_metadata(url=url)

    def download(self, repository: str, name: str, revision: str, again: bool = False) -> Path:
        """A file in the cache, downloaded where it is not there or where it is wanted `again`."""
        return Path(
            self.api.hf_hub_download(repository, name, revision=revision, force_download=again)
        )

    def upload(self, repository: str, paths: list[Path], private: bool, message: str) -> str:
        """Commit files to a repository, which is created if need be; returns the commit's URL."""
        from huggingface_hub import CommitOperationAdd

        self.api.create_repo(repository, private=private, exist_ok=True)
        if private and not self.api.model_info(repository).private:
            raise InputError(
                f"{HUB_PREFIX}{repository} is public", "choose another name, or leave --private out"
            )
        additions = [CommitOperationAdd(path.name, str(path)) for path in paths]
        return str(self.api.create_commit(repository, additions, commit_message=message).commit_url)


@contextmanager
def client(text: str) -> Iterator[_Client]:
    """The Hub's client without its warnings and progress bars; what it raises in the block becomes one clear line."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger = logging.getLogger("huggingface_hub")
    level, bars = logger.level, not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        disable_progress_bars()
        try:
            yield _Client()
        except TalkemoError:
            raise
        except Exception as error:
            raise _explain(text, error) from error
        finally:
            logger.setLevel(level)
            if bars:
                enable_progress_bars()


def _explain(text: str, error: BaseException) -> TalkemoError:
    """What an error of the Hub's client means to whoever asked for an address."""
    from huggingface_hub import constants, utils

    repository, _ = parse_address(text)
    log_in = "log in with: hf auth login, or set HF_TOKEN"
    reason = _first_line(str(error)) or type(error).__name__
    if reason.startswith(f"Invalid metadata in {README}"):
        return InputError(
            f"{README}: the Hub does not accept the metadata at its top",
            "correct it, or leave it out",
        )
    if isinstance(error, utils.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _explain(
            text, error.__cause__
        )  # the client's own words for what another error led to
    if isinstance(error, utils.OfflineModeIsEnabled):
        return InputError(
            f"{text}: the Hub cannot be asked while HF_HUB_OFFLINE is set", "unset it"
        )
    if isinstance(error, utils.GatedRepoError):
        page = f"{constants.ENDPOINT}/{repository}"
        return InputError(
            f"{text}: its owner gives access on request", f"ask for it on {page}, then {log_in}"
        )
    if isinstance(error, utils.RepositoryNotFoundError):
        return InputError(
            f"{text}: no such repository, or a private one",
            f"is the name right? For a private one {log_in}",
        )
    if isinstance(error, utils.RevisionNotFoundError):
        return InputError(
            f"{text}: no such revision", "name a branch, a tag or a commit of that repository"
        )
    if isinstance(error, utils.HFValidationError):
        return InputError(
            f"{text}: not the address of a repository", "write hf://owner/repository@revision"
        )
    if getattr(error, "response", None) is not None:
        return _explain_answer(text, error, log_in)
    if type(error).__module__.partition(".")[0] in HTTP_LIBRARIES:
        return TalkemoError(
            f"{text}: the Hub cannot be reached at {constants.ENDPOINT} ({reason})",
            "is there a connection? A set that was fetched before needs none",
        )
    if error.__cause__ is not None:
        return _explain(text, error.__cause__)
    if isinstance(error, OSError) and error.filename:
        return TalkemoError(
            f"{error.filename}: {error.strerror}",
            "HF_HOME names another folder for the Hub's cache",
        )
    return TalkemoError(
        f"{text}: the Hub's client failed ({reason})",
        "try again, or with --debug for the traceback",
    )


def _explain_answer(text: str, error: Any, log_in: str) -> TalkemoError:
    """What an answer of the Hub with an error status means."""
    from huggingface_hub import utils

    response, status = error.response, error.response.status_code
    if isinstance(error, utils.EntryNotFoundError):
        name = str(response.url).rpartition("/")[2]
        return InputError(f"{text}: has no {name}", "this is not a whole set of weights of talkemo")
    if status in (401, 403):
        return InputError(
            f"{text}: the Hub refuses access ({status})",
            f"{log_in}; a token may lack the permission",
        )
    said = _first_line(getattr(error, "server_message", None) or str(error))
    later = (
        "try again later"
        if status == 429 or status >= 500
        else "run it again with --debug for all it said"
    )
    return TalkemoError(f"{text}: the Hub answers with an error ({status}: {said})", later)


def _first_line(text: str) -> str:
    """The first line of a text, at most 200 characters of it."""
    lines = text.strip().splitlines()
    return lines[0][:200] if lines else ""
