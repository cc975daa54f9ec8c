"""ffmpeg runs under limits, and reads videos at a constant rate without repeating frames itself."""

import struct
import subprocess
import sys
import time

import imageio_ffmpeg
import numpy as np
import pytest

from talkemo import InputError, TalkemoError
from talkemo.audio.recording import open_audio
from talkemo.capture.landmark_tracker import LandmarkTracker
from talkemo.files import limits
from talkemo.video import ffmpeg, reader
from talkemo.video.encoder import VideoEncoder
from talkemo.video.reader import check_video, open_video

FPS = 25


def make_video(path, *arguments, seconds=1.0, codec="libx264"):
    """Write a video of a test pattern of 64 × 48 pixels; return its path."""
    source = f"-f lavfi -i testsrc=s=64x48:r={FPS}:d={seconds}".split()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, *arguments]
    subprocess.run([*command, "-pix_fmt", "yuv420p", "-c:v", codec, str(path)], check=True)
    return path


def with_gap(path, seconds, *arguments, codec="libvpx"):
    """Write a video whose second half begins so much later."""
    late = f"setpts='if(lt(N,{FPS}),PTS,PTS+{seconds}/TB)'"
    passthrough = ffmpeg.passthrough_arguments()
    return make_video(path, "-vf", late, *passthrough, *arguments, seconds=2, codec=codec)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("ffmpeg") / "clip.mp4")


def read(path):
    with open_video(path) as video:
        return video.fps, list(video.frames)


def test_a_header_of_no_frames_a_second_is_refused(clip, tmp_path):
    content = bytearray(clip.read_bytes())
    durations = content.index(b"stts") + 16
    content[durations : durations + 4] = struct.pack(">I", 0x7FFFFFFF)  # of each frame
    (tmp_path / "slow.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"slow\.mp4: its header states 0 frames a sec") as caught:
        check_video(tmp_path / "slow.mp4")
    assert "ffmpeg -i" in caught.value.hint


def test_a_gap_of_hours_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"36002 s at 25 frames a second are more than 216000"):
        check_video(with_gap(tmp_path / "gap.webm", 36000))
    # Without a duration in the header, the gap is found when it comes.
    path = with_gap(tmp_path / "live.webm", 36000, "-live", "1")
    check_video(path)
    with open_video(path) as video:
        read = []
        with pytest.raises(InputError, match=r"a gap of 3600\d s after 1 s"):
            read.extend(video.frames)
    assert len(read) < 2 * FPS


def test_a_short_gap_repeats_one_array(tmp_path):
    fps, frames = read(with_gap(tmp_path / "gap.webm", 10))
    assert (fps, len(frames)) == (FPS, 12 * FPS)
    assert all(frame is frames[FPS] for frame in frames[FPS : 11 * FPS - 1])
    assert len({id(frame) for frame in frames}) == 2 * FPS


def test_a_video_that_starts_late_shows_its_first_frame(tmp_path):
    path = tmp_path / "late.mp4"
    tone = ["-f", "lavfi", "-i", "sine=d=2"]
    offset = ["-vf", "setpts=PTS+0.4/TB", *ffmpeg.passthrough_arguments()]
    _, frames = read(make_video(path, *tone, *offset))
    assert len(frames) == FPS + 10
    assert all(frame is frames[0] for frame in frames[:11]) and frames[11] is not frames[0]


@pytest.mark.parametrize(
    ("times", "ticks"),
    [
        ([0, 0.1, 0.2], [0, 1, 2]),
        ([0, 0.3], [0, 0, 0, 1]),
        ([0.2, 0.3], [0, 0, 0, 1]),
        ([0, 0.01, 0.02, 0.1], [2, 3]),  # the last of a tick
        ([0, 0.2, 0.1, 0.3], [0, 0, 2, 3]),  # back in time
        ([0, float("nan"), 0.2], [0, 1, 2]),
    ],
)
def test_frames_are_resampled(times, ticks, tmp_path):
    frames = reader._resampled(enumerate(times), 10.0, tmp_path)
    assert list(frames) == ticks


def test_the_number_of_frames_is_limited(clip, monkeypatch):
    monkeypatch.setattr(reader, "MAX_VIDEO_FRAMES", 10)
    with pytest.raises(InputError, match=r"1 s at 25 frames a second are more than 10 frames"):
        check_video(clip)
    with pytest.raises(InputError, match="more than 10 frames"):
        list(reader._resampled(((None, k) for k in range(5)), 25.0, clip))


def test_a_tracker_looks_at_a_repeated_frame_once():
    tracker, seen = LandmarkTracker.__new__(LandmarkTracker), []
    tracker.detect = lambda frame: []
    tracker._track_first = lambda frame, crops: seen.append(frame)
    frames = [np.zeros((2, 2, 3)) for _ in range(2)]
    assert len(list(tracker.follow([frames[0]] * 5 + [frames[1]] * 3))) == 8
    assert [id(frame) for frame in seen] == [id(frame) for frame in frames]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space")
def test_memory_is_limited(clip, tmp_path, monkeypatch):
    large = tmp_path / "large.mp4"
    make_video(large, "-vf", "scale=4096:2160", "-preset", "ultrafast", seconds=0.2)
    monkeypatch.setattr(ffmpeg, "MAX_FFMPEG_BYTES", 230 << 20)
    with pytest.raises(InputError, match=r"large\.mp4: (decoding it takes more|not a video)"):
        read(large)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space")
def test_limits_hold_in_the_process(monkeypatch, tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nulimit -v; ulimit -f\n")
    program.chmod(0o700)
    monkeypatch.setattr(ffmpeg, "ffmpeg_program", lambda: str(program))
    assert ffmpeg.run_ffmpeg([])[1].split() == [str(1 << 22), str((1 << 28) // 512)]


def test_a_process_that_does_not_go_on_is_ended():
    with subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE) as process:
        watchdog = ffmpeg.Watchdog(process, max_stall_s=0.05)
        with watchdog.waiting():
            assert process.stdout.read() == b""
        watchdog.close()
    assert watchdog.ended
    with pytest.raises(InputError, match=r"a\.mp4: decoding it does not go on"):
        ffmpeg.check_end("a.mp4", "", watchdog.ended)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        watchdog = ffmpeg.Watchdog(process, max_stall_s=0.05)
        time.sleep(0.2)  # nothing waits for it
        watchdog.close()
    assert not watchdog.ended


def test_audio_of_a_video_is_read_by_the_same_door(tmp_path):
    secret = make_video(tmp_path / "secret.mp4", "-f", "lavfi", "-i", "sine=d=1")
    playlist = tmp_path / "list.m4a"
    playlist.write_text(f"ffconcat version 1.0\nfile '{secret}'\n")
    encoder = VideoEncoder(tmp_path / "a.mp4", tmp_path / "a.mp4", (16, 16), 25, playlist, 1.0)
    try:
        with pytest.raises(TalkemoError, match="the video encoder failed"):
            for _ in range(25):
                encoder.write(np.zeros((16, 16, 3), np.uint8))
            encoder.finish()
    finally:
        encoder.close()
    with pytest.raises(InputError, match=r"list\.m4a"):
        open_audio(playlist).samples()


def test_old_versions_have_another_option(monkeypatch):
    for version, option in (
        ("4.2.2-static", "-vsync"),
        ("n7.1", "-fps_mode"),
        ("N-1", "-fps_mode"),
    ):
        monkeypatch.setattr(ffmpeg, "run_ffmpeg", lambda _, v=version: (0, f"ffmpeg version {v} c"))
        assert ffmpeg._passthrough.__wrapped__("ffmpeg") == (option, "passthrough")


def test_limits_are_raised_by_the_environment(monkeypatch):
    assert limits.limit("MAX_THINGS", 5) == 5
    monkeypatch.setenv("TALKEMO_MAX_THINGS", "70")
    assert limits.limit("MAX_THINGS", 5) == 70
    for wrong in ("0", "-1", "1e9", "many", "9" * 30):
        monkeypatch.setenv("TALKEMO_MAX_THINGS", wrong)
        with pytest.raises(InputError, match="TALKEMO_MAX_THINGS is not a positive whole number"):
            limits.limit("MAX_THINGS", 5)
