"""Upload a set of weights to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .hub import MAIN_BRANCH, MODEL_CARD, hub_client, parse_address
from .models import check_set, open_set
from .registry import HUB_PREFIX, REGISTRY_NAME, write_registry


def push(
    folder: str | Path, address: str, private: bool = False, message: str | None = None
) -> str:
    """Upload a folder's set of weights in one commit, and return the commit's URL.

    Uploads the registry, the files that it lists, and README.md if there is one. A missing
    repository or registry is created. Before the upload, each file is checked against the registry,
    and all are loaded together, with the default set's files for missing stages.

    Raises InputError for an unusable set or address; TalkemoError if the Hub cannot be reached or
    fails.
    """
    repository, revision = parse_address(address)
    if revision is not None:
        raise InputError(
            f"{address}: weights are pushed to the branch {MAIN_BRANCH}",
            f"leave @{revision} out",
        )
    folder = Path(folder)
    weight_set = open_set(folder)
    check_set(weight_set)
    if not weight_set.entries:
        write_registry(folder)
        weight_set = open_set(folder)
    names = [REGISTRY_NAME, *(entry.file for entry in weight_set.entries.values())]
    if (folder / MODEL_CARD).is_file():
        names.append(MODEL_CARD)
    for name in names:
        weight_set.check_inside(folder / name)
    with hub_client(address) as api:
        api.create_repo(repository, private=private, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise InputError(
                f"{HUB_PREFIX}{repository} is public", "choose another name, or leave --private out"
            )
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=names,
            commit_message=message or "Weights of talkemo",
        )
        return str(commit.commit_url)
