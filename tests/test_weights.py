"""Sets of weights: damaged files and registries, and the Hub, read by its real client."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from hub_server import HubServer, Repository
from huggingface_hub import constants
from waiting import HANG_S

from talkemo import InputError, TalkemoError, load_models
from talkemo.capture import landmarker_bundle
from talkemo.weights import hub
from talkemo.weights.files import WEIGHT_STAGES, load_weights, save_weights
from talkemo.weights.models import check_set, open_set
from talkemo.weights.publish import push
from talkemo.weights.registry import read_registry, write_registry
from talkemo.weights.weight_set import bundled_folder, bundled_sets
from talkemo_cli.app import main

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
DEFAULT = bundled_folder() / "default"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A set of two stages, as talkemo train writes it."""
    trained = tmp_path / "trained"
    trained.mkdir()
    for stage in ("emotion", "discriminator"):
        shutil.copy(DEFAULT / f"{stage}.safetensors", trained)
    write_registry(trained)
    return trained


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def assert_clear(error: TalkemoError) -> None:
    """One line that says what is wrong, and one that says what to do."""
    assert len(error.message.splitlines()) == 1 and len(error.message) < 400
    assert len(error.hint.splitlines()) == 1


# --------------------------------------------------------------------------------------------- sets


def test_bundled_set_is_complete():
    assert bundled_sets() == ["default", "free"]
    default = open_set("default")
    assert default.stages == list(WEIGHT_STAGES)
    check_set(default)
    for entry in default.entries.values():
        assert entry.licence and entry.about
    for stage in ("talking", "emotion", "discriminator", "classifier"):
        _, settings = load_weights(DEFAULT / f"{stage}.safetensors", stage)
        assert settings["face"] == load_models().face.fingerprint
        assert tuple(settings["expression_names"]) == load_models().face.expression_names


def test_the_free_set_has_no_restricted_data():
    free = open_set("free")
    assert free.stages == ["talking", "emotion", "voice"]
    check_set(free)
    models = load_models("free", device="cpu")
    assert (
        models.path("face") == DEFAULT / "face.safetensors"
        and models.path("speech") == DEFAULT / "speech.safetensors"
    )
    used = [
        *free.entries.values(),
        *(open_set("default").entries[stage] for stage in ("face", "anatomy", "speech")),
    ]
    assert {entry.licence for entry in used} == {"MIT", "ODbL 1.0"}
    assert free.entries["voice"].licence == "ODbL 1.0"
    assert load_weights(models.path("voice"), "voice")[1]["config"]["free"] is True
    for stage, names in (("talking", "shares"), ("emotion", "corpora")):
        _, settings = load_weights(models.path(stage), stage)
        corpora = {name[0] if stage == "talking" else name for name in settings["config"][names]}
        assert corpora <= {"java_sed", "facegood", "noise", "pseudo_labelled"}
    assert all(name.startswith(("java_sed", "facegood")) for name in models.talking.styles)


def test_bundled_weights_are_small():
    files = [path for path in bundled_folder().rglob("*.safetensors")]
    assert sum(path.stat().st_size for path in files) < 48e6


def test_a_folder_takes_precedence_over_the_default_set(folder):
    models = load_models(folder, device="cpu")
    assert models.path("emotion") == folder / "emotion.safetensors"
    assert models.path("talking") == DEFAULT / "talking.safetensors"
    assert models.emotion.generator.picture.shape == (53, 3072)
    assert models.name == str(folder)


def test_a_folder_with_the_name_of_a_bundled_set(folder, monkeypatch):
    folder.rename(folder.parent / "default")
    monkeypatch.chdir(folder.parent)
    models = load_models(Path("default"), device="cpu")
    assert models.path("emotion").resolve() == folder.parent / "default" / "emotion.safetensors"
    assert models.path("face") == DEFAULT / "face.safetensors"


def test_registry_keeps_licences(folder):
    registry = folder / "registry.toml"
    registry.write_text(
        registry.read_text().replace("CC BY-NC-SA 4.0", 'mine "only"'.replace('"', '\\"'))
    )
    write_registry(folder)
    assert read_registry(registry)["emotion"].licence == 'mine "only"'
    assert sorted(read_registry(registry)) == ["discriminator", "emotion"]


def test_weights_of_data_for_any_use_are_mit(tmp_path):
    for name, licences in (
        ("free", {"talking": "MIT", "emotion": "MIT"}),
        ("default", {"talking": "research and non-commercial use", "emotion": "CC BY-NC-SA 4.0"}),
    ):
        (folder := tmp_path / name).mkdir()
        for stage in licences:
            shutil.copyfile(
                DEFAULT.parent / name / f"{stage}.safetensors", folder / f"{stage}.safetensors"
            )
        entries = read_registry(write_registry(folder))
        assert {stage: entry.licence for stage, entry in entries.items()} == licences


def test_registry_may_rename_files(folder):
    registry = folder / "registry.toml"
    (folder / "emotion.safetensors").rename(folder / "v2.safetensors")
    registry.write_text(registry.read_text().replace("emotion.safetensors", "v2.safetensors"))
    assert load_models(folder).path("emotion") == folder / "v2.safetensors"
    check_set(open_set(folder))


def test_folder_without_weights(tmp_path):
    for name in (tmp_path, tmp_path / "missing", "no-such-set"):
        with pytest.raises(InputError, match=str(name)) as caught:
            open_set(name)
        assert_clear(caught.value)


# ------------------------------------------------------------------------------------ refused files


def rewrite(folder, stage, tensors=None, registry=True, **settings):
    """Write a stage of the default set with changed tensors and settings; None removes one."""
    old_tensors, old_settings = load_weights(DEFAULT / f"{stage}.safetensors", stage)
    new_tensors = {**old_tensors, **(tensors or {})}
    new_settings = {**old_settings, **settings}
    save_weights(
        folder / f"{stage}.safetensors",
        stage,
        {name: tensor for name, tensor in new_tensors.items() if tensor is not None},
        {name: value for name, value in new_settings.items() if value is not None},
    )
    if registry:
        write_registry(folder)


def other_encoder(folder):
    rewrite(folder, "talking", encoder="0123456789abcdef")
    return "talking.safetensors", "made for another encoder .*0123456789abcdef"


def other_face(folder):
    rewrite(folder, "talking", face="0123456789abcdef")
    return "talking.safetensors", "made for another face .*0123456789abcdef"


def no_face(folder):
    rewrite(folder, "emotion", face=None)
    return "emotion.safetensors", "does not say what face it was made for"


def other_names(folder):
    rewrite(folder, "emotion", expression_names=["jawOpen"])
    return "emotion.safetensors", "made for another expression names .*1 names, not 53 names"


def truncated(folder):
    path = folder / "emotion.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    write_registry(folder)
    return path.name, "not a weights file of talkemo"


def wrong_stage(folder):
    shutil.copy(folder / "discriminator.safetensors", folder / "emotion.safetensors")
    write_registry(folder)
    return "emotion.safetensors", "weights of the stage 'discriminator', not 'emotion'"


def another_program(folder):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, folder / "emotion.safetensors")
    write_registry(folder)
    return "emotion.safetensors", "not weights of 'emotion'"


def junk(folder):
    (folder / "emotion.safetensors").write_bytes(np.random.default_rng(0).bytes(4096))
    write_registry(folder)
    return "emotion.safetensors", "not a weights file of talkemo"


def empty(folder):
    (folder / "emotion.safetensors").write_bytes(b"")
    (folder / "registry.toml").unlink()
    return "emotion.safetensors", "not a weights file of talkemo"


def huge_header(folder):
    (folder / "emotion.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    write_registry(folder)
    return "emotion.safetensors", "its header is too large"


def tampered(folder):
    path = folder / "emotion.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path.name, "its sha256 is not the one"


def other_size(folder):
    rewrite(folder, "emotion", registry=False, note="x" * 100)
    return "emotion.safetensors", "has [0-9]+ bytes, and registry.toml lists"


def missing(folder):
    (folder / "emotion.safetensors").unlink()
    return "emotion.safetensors", "listed in registry.toml and not there"


def unlisted(folder):
    rewrite(folder, "talking", registry=False)
    return "talking.safetensors", "not listed in"


def link_out(folder):
    (folder / "emotion.safetensors").rename(folder.parent / "elsewhere.safetensors")
    (folder / "emotion.safetensors").symlink_to("../elsewhere.safetensors")
    return "emotion.safetensors", "a link to a file outside its folder"


def link_out_without_registry(folder):
    (folder / "registry.toml").unlink()
    return link_out(folder)


def not_a_number(folder):
    tensor = np.zeros((3, 16, 3, 3), np.float16)
    tensor[1, 2, 0, 0] = np.nan
    rewrite(folder, "emotion", {"exit.weight": tensor})
    return "emotion.safetensors", "tensor exit.weight contains NaN or infinity"


def infinite(folder):
    rewrite(folder, "emotion", {"opening": np.full(43, -np.inf, np.float32)})
    return "emotion.safetensors", "tensor opening contains NaN or infinity"


def too_wide(folder):
    rewrite(folder, "emotion", channels=100_000)
    return "emotion.safetensors", "its setting channels does not fit its tensors"


def lacking_tensor(folder):
    rewrite(folder, "emotion", {"exit.bias": None})
    return "emotion.safetensors", "weights of another version .*exit.bias"


def lacking_setting(folder):
    rewrite(folder, "emotion", channels=None)
    return "emotion.safetensors", "weights of another version .*channels"


def other_shape(folder):
    rewrite(folder, "emotion", {"exit.bias": np.zeros(4, np.float16)})
    return "emotion.safetensors", "weights of another version .*exit.bias"


def vertex_beyond_the_face(folder):
    rewrite(folder, "face", {"map_vertices": np.full((10810, 3), 12500, np.int32)})
    return "face.safetensors", "its map_vertices are not numbers under 12500"


def half_a_face(folder):
    tensors, _ = load_weights(DEFAULT / "face.safetensors", "face")
    rewrite(folder, "face", {"mean": tensors["mean"][:6000]})
    return "face.safetensors", "weights of another version of talkemo .*its (basis|mirror) is"


@pytest.mark.parametrize(
    "damage",
    [
        other_encoder,
        other_face,
        no_face,
        other_names,
        truncated,
        wrong_stage,
        another_program,
        junk,
        empty,
        huge_header,
        tampered,
        other_size,
        missing,
        unlisted,
        link_out,
        link_out_without_registry,
        not_a_number,
        infinite,
        too_wide,
        lacking_tensor,
        lacking_setting,
        other_shape,
        vertex_beyond_the_face,
        half_a_face,
    ],
    ids=lambda damage: damage.__name__,
)
def test_unusable_files_are_refused(folder, damage, capsys):
    name, words = damage(folder)
    with pytest.raises(InputError, match=words) as caught:
        check_set(open_set(folder))
    assert caught.value.message.startswith(f"{folder / name}: ")
    assert_clear(caught.value)
    assert main(["weights", "verify", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.splitlines() == [
        f"talkemo: {caught.value.message}",
        f"  {caught.value.hint}",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"emotion.safetensors"', '"../emotion.safetensors"'),
        ('"emotion.safetensors"', '"/etc/emotion.safetensors"'),
        ('"emotion.safetensors"', '"C:emotion.safetensors"'),
        ('"emotion.safetensors"', "'..\\emotion.safetensors'"),
        ('"emotion.safetensors"', '"emotion.bin"'),
        ('"emotion.safetensors"', '".safetensors"'),
        ('"emotion.safetensors"', '"emotion\\u0000.safetensors"'),
        ('"emotion.safetensors"', "7"),
        ("bytes = ", "bytes = -"),
        ("bytes = ", "bytes = 99999"),
        ("bytes = 1", "bytes = true # 1"),
        ('sha256 = "', 'sha256 = "x'),
        ('licence = "', 'licence = 3 # "'),
        ("[emotion]", "[feeling]"),
        ("[emotion]", "[[emotion]]"),
        ("[emotion]", "[emotion"),
        ("[emotion]", "emotion = 3\n[discriminator.x]"),
        ("[emotion]", "a = " + "[" * 5000),
    ],
)
def test_unusable_registries_are_refused(folder, before, after, capsys):
    registry = folder / "registry.toml"
    registry.write_text(registry.read_text().replace(before, after))
    with pytest.raises(InputError, match="not a registry of weights") as caught:
        open_set(folder)
    assert caught.value.message.startswith(f"{registry}: ")
    assert_clear(caught.value)
    assert main(["weights", "list", str(folder)]) == 2


def test_list(folder, capsys):
    assert main(["weights", "list"]) == 0
    out, err = capsys.readouterr()
    assert (
        "default" in out and "talking.safetensors" in out and "CC BY-NC-SA 4.0" in out and not err
    )
    assert main(["weights", "list", str(folder), "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["sets"]
    assert list(sets) == [str(folder)] and list(sets[str(folder)]) == ["emotion", "discriminator"]
    assert sets[str(folder)]["emotion"]["bytes"] == (folder / "emotion.safetensors").stat().st_size
    (folder / "registry.toml").unlink()
    assert main(["weights", "list", str(folder)]) == 0
    assert "discriminator.safetensors" in capsys.readouterr().out


def test_a_registry_records_the_training(tmp_path, capsys):
    origin = {"commit": "0123456789ab", "seed": 3, "data": {"ravdess": "aa", "talking": "bb"}}
    save_weights(tmp_path / "speech.safetensors", "speech", {"a": np.zeros(1)}, {"made": origin})
    save_weights(tmp_path / "face.safetensors", "face", {"a": np.zeros(1)}, {})
    registry = write_registry(tmp_path)
    entries = read_registry(registry)
    speech = entries["speech"]
    assert (speech.commit, speech.seed) == (origin["commit"], origin["seed"])
    assert speech.data == "ravdess aa, talking bb" and entries["face"].commit is None
    registry.write_text(registry.read_text().replace("[face]", '[face]\ncommit = "older"'))
    write_registry(tmp_path)
    assert read_registry(registry)["face"].commit == "older"  # kept, as the file has none
    assert main(["weights", "list", str(tmp_path), "--json"]) == 0
    assert (
        json.loads(capsys.readouterr().out)["sets"][str(tmp_path)]["speech"]["commit"]
        == "0123456789ab"
    )
    save_weights(tmp_path / "face.safetensors", "face", {"a": np.ones(1)}, {})
    write_registry(tmp_path)
    assert read_registry(registry)["face"].commit is None  # a changed file


def test_a_listing_has_no_control_characters(folder, capsys):
    registry = folder / "registry.toml"
    registry.write_text(registry.read_text().replace('about = "', 'about = "\\u001b[2J'))
    assert main(["weights", "list", str(folder)]) == 0
    assert "\x1b[2J" not in capsys.readouterr().out


def test_verify(capsys):
    assert main(["weights", "verify"]) == 0
    out, err = capsys.readouterr()
    assert out.split() == ["default", "free"] and "8 files" in err
    assert main(["weights", "verify", "default", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["verified"] is True


def test_doctor_names_sets_and_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TALKEMO_CACHE", str(tmp_path))
    (tmp_path / "bindings").mkdir()
    (tmp_path / "bindings" / "a.binding.npz").write_bytes(bytes(3_000_000))
    assert main(["doctor", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["weights"] == {"default": "intact", "free": "intact"}
    cache = {"folder": str(tmp_path / "bindings"), "MB": 3.0, "bindings": 1}
    cache |= {"captures_MB": 0.0, "landmarks_MB": 0.0}
    assert output["cache"] == cache
    assert output["renderer"] and output["ffmpeg"]


def test_doctor_names_damaged_files(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("talkemo.weights.weight_set.bundled_folder", lambda: tmp_path)
    monkeypatch.setattr("talkemo.weights.models.bundled_folder", lambda: tmp_path)
    tampered(folder)
    assert main(["doctor", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)["weights"]
    assert output["trained"].startswith("damaged (") and "emotion.safetensors" in output["trained"]


# ------------------------------------------------------------------------------------------ the Hub


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local Hub in place of the real one, and an empty cache."""
    with HubServer() as local_hub:
        values = {
            "ENDPOINT": local_hub.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": local_hub.endpoint
            + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_STORED_TOKENS_PATH": str(tmp_path / "stored_tokens"),
            "AGENT_HARNESSES_PATH": str(tmp_path / "harnesses.json"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in values.items():
            monkeypatch.setattr(constants, name, value, raising=False)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        yield local_hub
        huggingface_hub.close_session()


@pytest.fixture
def published(server, folder):
    """The server with the set hf://me/set, and files that its registry does not list."""
    repository = server.repository("me/set", folder)
    repository.commit(
        {"extra.safetensors": b"not listed", "README.md": b"# A set", "pytorch_model.bin": b"\x80"}
    )
    return server


def go_offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_the_first_use_downloads_and_the_second_makes_no_request(published, folder, capfd):
    models = load_models("hf://me/set", device="cpu")
    assert sorted(published.served()) == [
        "discriminator.safetensors",
        "emotion.safetensors",
        "registry.toml",
    ]
    cached = models.sets[0].folder
    assert contents(cached) == contents(folder)
    published.log.clear()
    models = load_models("hf://me/set", device="cpu")
    assert models.path("emotion") == cached / "emotion.safetensors"
    assert models.path("talking") == DEFAULT / "talking.safetensors"
    assert models.emotion and models.discriminator
    assert published.log == []
    assert capfd.readouterr() == ("", "")


def test_offline(published, folder, monkeypatch):
    go_offline(monkeypatch)
    with pytest.raises(
        InputError, match="hf://me/set: not in the Hub's cache, and HF_HUB_OFFLINE is set"
    ) as caught:
        open_set("hf://me/set")
    assert_clear(caught.value)
    monkeypatch.undo()
    assert published.log == []


def test_offline_from_the_cache(published, monkeypatch):
    fetched = hub.fetch("hf://me/set")
    published.log.clear()
    go_offline(monkeypatch)
    assert open_set("hf://me/set") == fetched
    with pytest.raises(InputError, match="the Hub cannot be reached while HF_HUB_OFFLINE is set"):
        hub.fetch("hf://me/set")
    assert published.log == []


def test_fetch_downloads_new_files(published, folder):
    before = contents(hub.fetch("hf://me/set").folder)
    rewrite(folder, "discriminator", iterations=1)
    published.repositories["me/set"].commit(contents(folder))
    assert contents(open_set("hf://me/set").folder) == before
    published.log.clear()
    steps = []
    fetched = hub.fetch("hf://me/set", lambda done, total, name: steps.append((done, total, name)))
    assert contents(fetched.folder) == contents(folder)
    assert published.served() == ["registry.toml", "discriminator.safetensors"]
    assert steps[0][0] == 0 and steps[-1][0] == steps[-1][1] == sum(
        entry.bytes for entry in fetched.entries.values()
    )
    published.log.clear()
    assert open_set("hf://me/set") == fetched and published.log == []


def test_pinned_revisions(published, folder):
    repository = published.repositories["me/set"]
    first = repository.revisions["main"]
    repository.revisions["v1"] = repository.revisions["release/1"] = first
    before = (folder / "emotion.safetensors").read_bytes()
    rewrite(folder, "emotion", minutes=1.0)
    repository.commit(contents(folder))
    for revision in ("v1", "release/1", first):
        pinned = open_set(f"hf://me/set@{revision}")
        assert (pinned.folder / "emotion.safetensors").read_bytes() == before
        published.log.clear()
        assert open_set(f"hf://me/set@{revision}") == pinned and published.log == []
    assert (open_set("hf://me/set").folder / "emotion.safetensors").read_bytes() != before


def test_a_refused_set_does_not_replace_a_good_one(published, folder):
    good = hub.fetch("hf://me/set")
    tampered(folder)
    published.repositories["me/set"].commit(contents(folder))
    published.log.clear()
    with pytest.raises(
        InputError, match=r"its file emotion\.safetensors is not the one that its registry\.toml"
    ) as caught:
        hub.fetch("hf://me/set")
    assert_clear(caught.value)
    assert published.served() == [
        "registry.toml"
    ]  # the Hub states another sha256, so the file is not downloaded
    published.log.clear()
    assert open_set("hf://me/set") == good and published.log == []


def test_a_file_swapped_during_the_download(published, folder):
    published.swapped["emotion.safetensors"] = bytes(
        (folder / "emotion.safetensors").stat().st_size
    )
    for _ in range(2):
        with pytest.raises(InputError, match=r"its file emotion\.safetensors is not the one"):
            open_set("hf://me/set")
    published.swapped.clear()
    assert contents(open_set("hf://me/set").folder) == contents(folder)


def test_cache_that_cannot_be_written(published, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(TalkemoError, match=str(tmp_path / "file")) as caught:
        open_set("hf://me/set")
    assert_clear(caught.value)


def test_file_damaged_in_the_cache(published):
    fetched = hub.fetch("hf://me/set")
    path = fetched.folder / "emotion.safetensors"
    good = path.read_bytes()
    blob = path.resolve()
    blob.chmod(0o644)
    blob.write_bytes(good[:-1] + b"?")
    with pytest.raises(
        InputError, match=r"emotion\.safetensors: its sha256 is not the one"
    ) as caught:
        check_set(open_set("hf://me/set"))
    assert caught.value.hint == "fetch it again: talkemo weights fetch hf://me/set"
    published.log.clear()
    check_set(hub.fetch("hf://me/set"))
    assert path.read_bytes() == good and published.served() == [
        "registry.toml",
        "emotion.safetensors",
    ]
    blob.write_bytes(good[:-1] + b"?")
    published.repositories["me/set"].commit({"README.md": b"another commit with the same files"})
    check_set(hub.fetch("hf://me/set"))
    blob.unlink()  # a missing file is downloaded at the next use
    check_set(open_set("hf://me/set"))


def test_snapshot_as_a_folder(published):
    snapshot = hub.fetch("hf://me/set").folder
    assert (snapshot / "emotion.safetensors").is_symlink()
    assert load_models(snapshot).path("emotion") == snapshot / "emotion.safetensors"
    check_set(open_set(snapshot))


@pytest.mark.parametrize("name", ["../x.safetensors", "a/x.safetensors", "README.md"])
def test_registry_that_points_out_of_its_folder(published, folder, name):
    registry = (folder / "registry.toml").read_text().replace("emotion.safetensors", name)
    published.repositories["me/set"].commit({"registry.toml": registry.encode()})
    for _ in range(2):  # the registry is not cached
        published.log.clear()
        with pytest.raises(
            InputError,
            match=r"hf://me/set: its registry\.toml is not a registry .*the file of emotion",
        ) as e:
            open_set("hf://me/set")
        assert_clear(e.value)
        assert published.served() == ["registry.toml"]


def test_sizes_are_limited(published, folder):
    repository = published.repositories["me/set"]
    size = (folder / "emotion.safetensors").stat().st_size
    registry = (
        (folder / "registry.toml").read_text().replace(f"bytes = {size}", "bytes = 3000000000")
    )
    repository.commit({"registry.toml": registry.encode()})
    with pytest.raises(InputError, match=r"emotion\.safetensors has no size, or one beyond 2 GiB"):
        open_set("hf://me/set")
    repository.commit({"registry.toml": bytes((1 << 20) + 1)})
    published.log.clear()
    with pytest.raises(InputError, match=r"its registry\.toml is too large"):
        open_set("hf://me/set")
    assert published.served() == []


def test_gated_repository(published, monkeypatch):
    published.repositories["me/set"].gated = True
    published.repositories["me/set"].token = "hf_reader"
    for token in ("", "hf_stranger"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(
            InputError, match="hf://me/set: its owner gives access on request"
        ) as caught:
            open_set("hf://me/set")
        assert_clear(caught.value)
        assert (
            f"{published.endpoint}/me/set" in caught.value.hint and "HF_TOKEN" in caught.value.hint
        )
    published.log.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert open_set("hf://me/set").stages == ["emotion", "discriminator"]
    assert {token for _, _, token in published.log} == {"hf_reader"}


def test_private_repository(published, monkeypatch, tmp_path):
    published.repositories["me/set"].private = True
    published.repositories["me/set"].token = "hf_reader"
    with pytest.raises(InputError, match="no such repository, or a private one") as caught:
        open_set("hf://me/set")
    assert_clear(caught.value)
    (tmp_path / "token").write_text("hf_reader")  # where `hf auth login` stores it
    assert open_set("hf://me/set").stages == ["emotion", "discriminator"]


def test_missing_repositories_revisions_and_files(published, folder):
    repository = published.repositories["me/set"]
    repository.commits["0" * 40] = {"README.md": b""}
    repository.commits["1" * 40] = {"registry.toml": (folder / "registry.toml").read_bytes()}
    repository.commits["2" * 40] = {"registry.toml": b""}
    cases = {
        "hf://me/other": "no such repository, or a private one",
        "hf://me/set@v9": "no such revision",
        f"hf://me/set@{'9' * 40}": "no such revision",
        f"hf://me/set@{'0' * 40}": r"has no registry\.toml",
        f"hf://me/set@{'1' * 40}": r"has no emotion\.safetensors",
        f"hf://me/set@{'2' * 40}": r"its registry\.toml lists no files",
    }
    for text, words in cases.items():
        with pytest.raises(InputError, match=f"^{text}: {words}") as caught:
            load_models(text)
        assert_clear(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://a",
        "hf://a/b/c",
        "hf://../x",
        "hf://a/..",
        "hf://a/b@",
        "hf://a/b@../../x",
        "hf://a/b@/x",
        "hf://a/b@x/./y",
        "hf://a/b@v1@v2",
        "hf://a/b c",
        "hf://a/b\n",
        "hf://a/b.git",
        "hf://a--b/c",
        "hf://datasets/a/b",
        "hf://a/" + "b" * 97,
    ],
)
def test_malformed_addresses(server, text, capsys):
    with pytest.raises(InputError, match="not the address of a repository on the Hub") as caught:
        load_models(text)
    assert "hf://owner/repository@revision" in caught.value.hint
    assert main(["weights", "fetch", text]) == 2
    assert server.log == []


def test_hub_that_fails(published, monkeypatch, capfd):
    for status, words in (
        (500, "500: the server is broken"),
        (503, "503"),
        (429, "429"),
        (200, "not answer as the Hub"),
    ):
        published.broken = status
        with pytest.raises(TalkemoError, match=words) as caught:
            open_set("hf://me/set")
        assert not isinstance(caught.value, InputError)
        assert_clear(caught.value)
    assert main(["weights", "fetch", "hf://me/set"]) == 1
    out, err = capfd.readouterr()
    assert not out and len(err.splitlines()) == 2 and err.startswith("talkemo: hf://me/set: ")
    published.broken = 403
    assert main(["weights", "fetch", "hf://me/set"]) == 2


def test_hub_that_cannot_be_reached(server, capfd, monkeypatch):
    server.close()
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(
        TalkemoError, match=f"hf://me/set: the Hub cannot be reached at {server.endpoint}"
    ) as caught:
        open_set("hf://me/set")
    assert not waits  # it is not tried again and again
    assert not isinstance(caught.value, InputError)
    assert_clear(caught.value)
    assert capfd.readouterr() == ("", "")


# --------------------------------------------------------------------------------------------- push


@pytest.fixture
def writer(server, monkeypatch):
    """The server, with the token that may write."""
    monkeypatch.setenv("HF_TOKEN", server.writer)
    return server


def test_push_then_fetch(writer, folder, capfd):
    (folder / "README.md").write_text("# A set\n")
    (folder / "notes.txt").write_text("not for others")
    url = push(folder, "hf://me/new", message="Better smiles")
    repository = writer.repositories["me/new"]
    assert url == f"{writer.endpoint}/me/new/commit/{repository.revisions['main']}"
    assert len(repository.commits) == 1 and not repository.private
    fetched = hub.fetch("hf://me/new")
    (folder / "notes.txt").unlink()
    assert repository.commits[repository.revisions["main"]] == contents(folder)
    (folder / "README.md").unlink()
    assert contents(fetched.folder) == contents(folder)
    rewrite(folder, "emotion", minutes=2.0)
    push(folder, "hf://me/new")
    assert len(repository.commits) == 2
    assert contents(hub.fetch("hf://me/new").folder) == contents(folder)
    assert capfd.readouterr() == ("", "")


def test_push_writes_a_registry(writer, folder):
    (folder / "registry.toml").unlink()
    push(folder, "hf://me/new", private=True)
    assert writer.repositories["me/new"].private
    assert sorted(read_registry(folder / "registry.toml")) == ["discriminator", "emotion"]
    assert hub.fetch("hf://me/new").stages == ["emotion", "discriminator"]


@pytest.mark.parametrize(
    "damage", [tampered, missing, other_face, link_out], ids=lambda damage: damage.__name__
)
def test_push_checks_first(writer, folder, damage):
    name, words = damage(folder)
    with pytest.raises(InputError, match=f"{name}: .*{words}"):
        push(folder, "hf://me/new")
    assert writer.log == []


def test_refused_pushes(writer, folder, monkeypatch):
    with pytest.raises(InputError, match="pushed to the branch main"):
        push(folder, "hf://me/new@v1")
    (folder / "README.md").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match=r"README\.md: a link to a file outside its folder"):
        push(folder, "hf://me/new")
    (folder / "README.md").unlink()
    assert writer.log == []
    (folder / "README.md").write_text("---\nwrong")
    with pytest.raises(
        InputError, match=r"README\.md: the Hub does not accept the metadata"
    ) as caught:
        push(folder, "hf://me/new")
    assert_clear(caught.value)
    (folder / "README.md").unlink()
    with pytest.raises(InputError, match="hf://me/new is public"):
        push(folder, "hf://me/new", private=True)
    assert not writer.repositories["me/new"].commits
    for token in ("", "hf_stranger"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(InputError, match="hf://me/newer: the Hub refuses access") as caught:
            push(folder, "hf://me/newer")
        assert_clear(caught.value)
    assert "me/newer" not in writer.repositories


def test_command(writer, folder, capsys):
    assert main(["weights", "push", str(folder), "hf://me/new", "--message", "One", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["set"] == "hf://me/new" and output["commit"].startswith(writer.endpoint)
    assert main(["weights", "fetch", "hf://me/new"]) == 0
    out, err = capsys.readouterr()
    assert contents(Path(out.strip())) == contents(folder) and "2 files" in err
    assert main(["weights", "list", "hf://me/new"]) == 0
    assert "emotion.safetensors" in capsys.readouterr().out
    assert main(["weights", "verify", "hf://me/new", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["sets"]["hf://me/new"]) == [
        "emotion",
        "discriminator",
    ]
    for wrong in (
        ["fetch"],
        ["fetch", str(folder)],
        ["push", str(folder)],
        ["push"],
        ["list", "default", "default"],
    ):
        assert main(["weights", *wrong]) == 2
        out, err = capsys.readouterr()
        assert not out and len(err.splitlines()) == 2


def test_settings_of_the_client_apply(published, tmp_path):
    """HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE, read when the client is imported."""
    published.repositories["me/set"].gated = True
    published.repositories["me/set"].token = "hf_reader"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))
    }
    environment |= {"HF_ENDPOINT": published.endpoint, "HF_HOME": str(tmp_path / "home")}

    def talkemo(*arguments, **more):
        command = [sys.executable, "-m", "talkemo_cli", "weights", *arguments]
        return subprocess.run(
            command, env={**environment, **more}, capture_output=True, text=True, timeout=HANG_S
        )

    done = talkemo("fetch", "hf://me/set", "--json", HF_TOKEN="hf_reader")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["folder"].startswith(str(tmp_path / "home"))
    published.log.clear()
    done = talkemo("list", "hf://me/set", HF_HUB_OFFLINE="1")
    assert done.returncode == 0 and "emotion.safetensors" in done.stdout and not done.stderr
    assert published.log == []


def test_a_single_file_by_its_digest(server, monkeypatch):
    content = b"\x00" * 5000
    repository = Repository()
    server.repositories["me/landmarker"] = repository
    repository.commit({landmarker_bundle.LANDMARKER_FILE: content})
    monkeypatch.setattr(landmarker_bundle, "LANDMARKER_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setenv(landmarker_bundle.LANDMARKER_VARIABLE, "hf://me/landmarker")
    assert landmarker_bundle.find_landmarker().read_bytes() == content
    server.log.clear()
    assert (
        landmarker_bundle.find_landmarker().read_bytes() == content and server.log == []
    )  # cached
    monkeypatch.setattr(landmarker_bundle, "LANDMARKER_SHA256", "0" * 64)
    with pytest.raises(InputError, match="not the expected one"):
        landmarker_bundle.find_landmarker()
    monkeypatch.setenv(landmarker_bundle.LANDMARKER_VARIABLE, "hf://me/nothing")
    with pytest.raises(InputError, match="me/nothing"):
        landmarker_bundle.find_landmarker()


def test_the_package_names_the_licences_of_its_weights():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    identifiers = {
        "MIT": "MIT",
        "CC BY-NC-SA 4.0": "CC-BY-NC-SA-4.0",
        "ODbL 1.0": "ODbL-1.0",
        "research and non-commercial use": "LicenseRef-talkemo-research-weights",
    }
    licences = {
        entry.licence for name in bundled_sets() for entry in open_set(name).entries.values()
    }
    named = set(project["license"].split(" AND "))
    assert {identifiers[licence] for licence in licences} | {"MIT"} == named
    assert "weights/README.md" in project["license-files"]


def test_weights_of_another_set_with_stricter_terms_are_reported(
    tmp_path, example_face, short_speech, capsys
):
    """A folder without a talking model gets the default one, which is for research."""
    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.copy(bundled_folder() / "free" / "emotion.safetensors", mine)
    command = ["animate", str(example_face), str(short_speech), "-o", str(tmp_path / "a.csv")]
    assert main([*command, "--weights", str(mine), "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert "no weights of the stage talking" in note and "research" in note
    assert main([*command, "--weights", "free", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []
    assert load_models("free").licence_notes("face", "speech", "talking", "emotion") == []
    assert load_models().licence_notes("talking", "emotion") == []
