"""The user study: its page, a participant in a real browser, and the count of the answers."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace

import imageio.v3 as imageio
import numpy as np
import pytest
from browser import browser_command, needs_browser
from waiting import HANG_S

from talkemo import InputError
from talkemo.paper import training, variants
from talkemo.paper.study import QUESTIONS, draw, make_study, tally, wilson
from talkemo.train.emotion import EmotionConfig
from talkemo_cli.app import main

# A participant: begins, answers left for realism, right for content and no difference for emotion,
# and plays both videos of each pair. The lengths of the videos are saved as well.
PARTICIPANT = """<script>
const seen = [];
const stringify = JSON.stringify;
JSON.stringify = (value, ...how) => stringify(value.answers ? { ...value, seen } : value, ...how);
(async () => {
  if (!element("study").hidden || element("introduction").childElementCount < 3) throw new Error("no introduction");
  element("begin").click();
  for (let k = 0; k < 15; k++) {
    const videos = ["left", "right"].map(element);
    for (const video of videos) await new Promise(done => video.readyState >= 2 ? done() : video.oncanplay = done);
    seen.push(videos.map(video => Math.round(video.duration)));
    const pick = (name, value) => document.querySelector(`input[name=${name}][value=${value}]`).click();
    pick("realism", "left"); pick("content", "right"); pick("emotion", "none");
    videos[0].currentTime = videos[0].duration;  // skipping does not count
    await new Promise(done => videos[0].onseeked = done);
    for (const video of videos) {
      if (!element("next").disabled) throw new Error("not all is played");
      video.currentTime = 0; video.muted = true; video.playbackRate = 4;
      const ended = new Promise(done => video.addEventListener("ended", done, { once: true }));
      await video.play();
      await ended;
    }
    element("next").click();
  }
})();
</script>"""


@pytest.fixture
def folders(tmp_path):
    made = []
    for method in ("ours", "theirs", "others"):
        folder = tmp_path / method
        folder.mkdir()
        for name in ("a", "b") if method == "others" else ("a", "b", "c"):
            (folder / f"{name}.mp4").write_bytes(f"{method} {name}".encode())
        made.append(folder)
    return made


def answers(key, choose):
    """A participant's file who chooses by query and question."""
    given = [
        {"query": k, **{q: choose(query, q) for q in QUESTIONS}}
        for k, query in key["queries"].items()
    ]
    return {
        "study": key["study"],
        "participant": f"p{np.random.default_rng().integers(1 << 40)}",
        "answers": given,
    }


def test_a_study_says_what_it_lacks(folders, tmp_path):
    told = []
    make_study(folders, tmp_path / "few", notice=told.append)
    assert len(told) == 1 and "7 different pairs of videos for 15 queries" in told[0]
    (folders[2] / "a.mp4").rename(folders[2] / "d.mp4")
    (folders[2] / "b.mp4").unlink()
    make_study(folders, tmp_path / "lone", queries=3, notice=told.append)
    assert [text.split()[0] for text in told[1:]] == ["ours", "theirs"]
    assert all("never compared" in text for text in told[1:])


def test_a_study_is_balanced_and_its_page_does_not_name_the_methods(folders, tmp_path):
    key = make_study(folders, tmp_path / "study", seed=1)
    text = (tmp_path / "study" / "index.html").read_text("utf-8")
    assert not any(name in text for name in ("ours", "theirs", "others"))
    pairs = [tuple(sorted((q["left"], q["right"]))) for q in key["queries"].values()]
    assert (
        len(pairs) == 15
        and all(pairs.count(pair) == 5 for pair in set(pairs))
        and len(set(pairs)) == 3
    )
    for query in page_data(tmp_path / "study")["queries"]:
        for side in ("left", "right"):
            own = key["queries"][query["id"]]
            content = (tmp_path / "study" / query[side]).read_bytes().decode()
            assert content == f"{own[side]} {own['film']}"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("methods, queries", [(7, 15), (5, 15), (3, 1)])
def test_all_pairs_of_methods_are_shown_equally_often(methods, queries, tmp_path):
    for method in range(methods):
        (tmp_path / f"m{method}").mkdir()
        for name in ("hello_happy", "hello"):
            (tmp_path / f"m{method}" / f"{name}.mp4").write_bytes(b"film")
    key = make_study(
        [tmp_path / f"m{k}" for k in range(methods)], tmp_path / "study", queries=queries, seed=3
    )
    pairs = [frozenset((q["left"], q["right"])) for q in key["queries"].values()]
    every = methods * (methods - 1) // 2
    assert len(set(pairs)) == every and len(pairs) >= queries
    assert {pairs.count(pair) for pair in set(pairs)} == {len(pairs) // every}
    data = page_data(tmp_path / "study")
    assert data["shown"] == queries
    for query in data["queries"]:
        assert query.get("about") == (
            "happy" if key["queries"][query["id"]]["film"] == "hello_happy" else None
        )


def page_data(study):
    """The data in the page of a study."""
    text = (study / "index.html").read_text("utf-8")
    return json.loads(re.search(r'type="application/json">(.*?)</script>', text, re.DOTALL)[1])


def test_answers_are_counted_on_whichever_side_a_video_was(folders, tmp_path):
    key = make_study(folders[:2], tmp_path / "study", queries=10)
    chosen = lambda query, question: {
        "realism": next(side for side in ("left", "right") if query[side] == "theirs"),
        "content": "left",
        "emotion": "none",
    }[question]
    paths = []
    for k in range(2):
        paths.append(tmp_path / f"answers_{k}.json")
        paths[-1].write_text(json.dumps(answers(key, chosen)))
    found = {p.question: p for p in tally(tmp_path / "study", paths)}
    real, content, emotion = (found[question] for question in QUESTIONS)
    assert (real.first, real.second, real.chose_first, real.chose_second, real.none) == (
        "ours",
        "theirs",
        0,
        20,
        0,
    )
    assert real.share == 0 and real.low == 0 and 0.1 < real.high < 0.2
    left = sum(query["left"] == "ours" for query in key["queries"].values())
    assert (content.chose_first, content.chose_second) == (2 * left, 20 - 2 * left)
    assert emotion.none == 20 and emotion.share is None
    draw(list(found.values()), tmp_path / "bars.png")
    named = [replace(p, first="5$x_{$", second="b\x1b\udcff$") for p in found.values()]
    draw(named, tmp_path / "odd.png")  # names are no formulas
    assert (tmp_path / "odd.png").is_file()
    assert (tmp_path / "bars.png").read_bytes()[:4] == b"\x89PNG"


def test_wilsons_interval():
    low, high = wilson(8, 10)  # as in published tables
    assert low == pytest.approx(0.490, abs=1e-3) and high == pytest.approx(0.943, abs=1e-3)


def test_other_folders_and_files_are_refused(folders, tmp_path):
    key = make_study(folders, tmp_path / "study")
    good = answers(key, lambda *_: "left")
    with pytest.raises(InputError, match="exists already"):
        make_study(folders, tmp_path / "study")
    with pytest.raises(InputError, match="two folders"):
        make_study(folders[:1], tmp_path / "s")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no videos"):
        make_study([*folders, tmp_path / "empty"], tmp_path / "s")
    bad = {
        "not answers to this study": {**good, "study": "x"},
        "an answer that the page": {**good, "answers": [{**good["answers"][0], "realism": "both"}]},
        "that the page does not give": {**good, "answers": [good["answers"][0]] * 2},
        "not a participant's answers": [],
    }
    for says, content in bad.items():
        (tmp_path / "x.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=says):
            tally(tmp_path / "study", [tmp_path / "x.json"])
    (tmp_path / "x.json").write_text(json.dumps(good))
    with pytest.raises(InputError, match="given twice"):
        tally(tmp_path / "study", [tmp_path / "x.json"] * 2)
    with pytest.raises(InputError, match="no answers to count"):
        tally(tmp_path / "study", [])
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError):
        tally(tmp_path / "study", [tmp_path / "x.json"])


def test_videos_of_different_length_are_not_compared(folders, tmp_path):
    told = []
    for folder, count in zip(folders, (10, 10, 15)):
        frames = np.zeros((count, 32, 32, 3), np.uint8)
        imageio.imwrite(folder / "a.mp4", frames, fps=10, codec="libx264")
    key = make_study(folders, tmp_path / "study", queries=5, notice=told.append)
    for query in key["queries"].values():
        assert query["film"] != "a" or {query["left"], query["right"]} == {"ours", "theirs"}
    assert [text.split(":")[0] for text in told[:2]] == ["ours and others", "theirs and others"]
    assert "1 videos of the same name differ in length" in told[0]


@needs_browser
def test_a_participant_in_a_browser(folders, tmp_path):
    for number, path in enumerate(sorted(path for folder in folders for path in folder.iterdir())):
        imageio.imwrite(
            path, np.full((10, 32, 32, 3), 20 * number, np.uint8), fps=10, codec="libx264"
        )
    key = make_study(folders, tmp_path / "study")
    page = tmp_path / "study" / "index.html"
    page.write_text(page.read_text("utf-8").replace("</body>", PARTICIPANT + "</body>"), "utf-8")
    saves, profile = tmp_path / "saves", tmp_path / "profile"
    (profile / "Default").mkdir(parents=True)
    saves.mkdir()
    settings = {"download": {"default_directory": str(saves), "prompt_for_download": False}}
    (profile / "Default" / "Preferences").write_text(json.dumps(settings))
    command = browser_command(profile, "--disable-gpu", page.as_uri(), headless="--headless=new")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        limit = time.monotonic() + HANG_S
        while not (saved := list(saves.glob("*.json"))) and time.monotonic() < limit:
            time.sleep(0.1)
        browser.kill()
    assert [path.name.startswith("answers_") for path in saved] == [True]
    answered = json.loads(saved[0].read_text())
    # All videos played, and each pair of the study was shown once.
    assert answered["seen"] == [[1, 1]] * 15
    del answered["seen"]
    saved[0].write_text(json.dumps(answered))
    assert sorted(answer["query"] for answer in answered["answers"]) == sorted(key["queries"])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "talkemo_cli", "study", "tally", tmp_path / "study", saved[0]),
            *("-o", tmp_path / "a.png", "--json"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    counts = {q: [0, 0, 0] for q in QUESTIONS}
    for row in found["preferences"]:
        for k, name in enumerate(("chose_first", "chose_second", "none")):
            counts[row["question"]][k] += row[name]
    first = lambda side: sum(q[side] == min(q["left"], q["right"]) for q in key["queries"].values())
    assert counts == {
        "realism": [first("left"), 15 - first("left"), 0],
        "content": [first("right"), 15 - first("right"), 0],
        "emotion": [0, 0, 15],
    }
    assert (tmp_path / "a.png").is_file()


def test_the_papers_six_methods_are_rendered_and_kept(
    corpus, fitted, short_speech, models, tmp_path, monkeypatch
):
    config = EmotionConfig(batch=4, channels=16, blocks=1)
    monkeypatch.setattr(training, "EmotionConfig", lambda: config)
    monkeypatch.setattr(variants, "VARIANT_VIDEO_SIZE_PX", 96)
    monkeypatch.setattr(variants, "VARIANT_VIDEO_FPS", 5.0)
    out = tmp_path / "variants"
    arguments = [
        "study",
        "make",
        "--paper",
        str(short_speech),
        "--data",
        str(corpus),
        "--variants",
        str(out),
    ]
    arguments += [
        "--captures",
        str(fitted[0] / "captures"),
        "--steps",
        "3",
        "-o",
        str(tmp_path / "study"),
    ]
    assert main([*arguments, "--json"]) == 0
    videos = {
        path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("*.mp4")
    }
    methods = (
        "full",
        "without local weights",
        "without augmentation",
        "PointNet",
        "VOCA",
        "Karras",
    )
    names = [f"{short_speech.stem}_{which}.mp4" for which in ("happy", "angry", "surprised")]
    assert set(videos) == {f"{method}/{name}" for method in methods for name in names}
    shown = {method: (out / method / names[0]).read_bytes() for method in methods}
    assert len(set(shown.values())) == 6
    assert (
        len({(out / "VOCA" / name).read_bytes() for name in names}) == 1
    )  # this method has no emotion
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    assert (
        key["methods"] == list(methods)
        and len(key["queries"]) == 15
        and page_data(tmp_path / "study")["shown"] == 15
    )
    assert main([*arguments[:-1], str(tmp_path / "again"), "--seed", "1"]) == 0
    again = {
        path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("*.mp4")
    }
    assert again == videos
    assert main(["study", "make", "--paper", str(short_speech), "-o", str(tmp_path / "third")]) == 2
    assert main(["study", "make", "a", "b", "--steps", "3", "-o", str(tmp_path / "third")]) == 2
