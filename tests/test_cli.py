"""The command line: its JSON, its round trip, and what it says to a mistake."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lic_lab as lab
from lic_lab import cli
from lic_lab.cli import console, evaluate
from lic_lab.files import written

ABLATION_KEYS = {"channel", "local", "global", "refinement", "bpp", "bits_vs_base_percent"}


def test_codecs_lists_every_codec_with_stable_keys(untrained_weights, capsys):
    assert cli.main(["codecs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"mlic", "mlic+", "mean-scale"} <= {codec["name"] for codec in found}
    for codec in found:
        assert {"name", "size", "parameters", "paper", "weights"} <= set(codec)
        for weights in codec["weights"]:
            assert set(weights) == {"quality", "lambda", "digest"}
    (small,) = [codec for codec in found if (codec["name"], codec["size"]) == ("mlic+", "small")]
    assert [w["quality"] for w in small["weights"]] == [2]

    assert cli.main(["codecs"]) == 0
    out = capsys.readouterr().out
    assert "q2 (lambda 0.0035)" in out
    assert "113.99 M" in out


def test_ablation_has_stable_keys_and_starts_from_the_base(untrained_weights, photograph, capsys):
    assert cli.main(["ablation", "-q", "2", "--json", str(photograph)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(set(row) == ABLATION_KEYS for row in rows)
    assert [rows[0][part] for part in ("channel", "local", "global")] == ["none"] * 3
    assert rows[0]["bits_vs_base_percent"] == 0


def test_ablation_takes_folders(untrained_weights, photograph, capsys):
    assert cli.main(["ablation", str(photograph.parent)]) == 0
    assert "bits_vs_base_percent" in capsys.readouterr().out.splitlines()[0]


def test_trace_prints_what_lab_trace_says(untrained_weights, photograph, capsys):
    assert cli.main(["trace", str(photograph), "-c", "mlic", "--swap", "local=attention", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    codec = lab.load("mlic", 2).swap(local="attention")
    expected = lab.trace(codec, photograph)
    assert found["combination"] == codec.combination
    assert (found["width"], found["height"]) == (101, 75)
    assert found["bpp"] == pytest.approx(expected.bpp)
    assert found["psnr"] == pytest.approx(expected.psnr)

    assert cli.main(["trace", str(photograph)]) == 0
    out = capsys.readouterr().out
    assert "anchor" in out
    assert "slice 3" in out
    assert "PSNR" in out


def test_a_file_comes_back_as_the_picture_that_trace_shows(untrained_weights, photograph, tmp_path, capsys):
    coded, decoded = tmp_path / "a.lic", tmp_path / "a.png"
    assert cli.main(["compress", str(photograph), "-o", str(coded)]) == 0
    assert f"{coded.stat().st_size} bytes" in capsys.readouterr().out
    assert cli.main(["decompress", str(coded), "-o", str(decoded)]) == 0
    assert "101 x 75" in capsys.readouterr().out
    shown = lab.trace(lab.load("mlic+"), photograph).x_hat.astype(int)
    difference = np.abs(np.asarray(Image.open(decoded)) - shown)  # the trace is computed in float32
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02
    assert cli.main(["info", str(coded), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["codec"], told["quality"], told["components"]) == ("mlic+", 2, {})
    assert (told["width"], told["height"], told["bytes"]) == (101, 75, coded.stat().st_size)
    assert told["bpp"] == pytest.approx(8 * told["bytes"] / (101 * 75))
    assert cli.main(["info", str(coded)]) == 0
    assert "the codec's own" in capsys.readouterr().out
    assert cli.main(["decompress", str(coded), "-o", str(decoded), "--max-pixels", "7574"]) == 2
    assert "--max-pixels" in capsys.readouterr().err


@pytest.mark.parametrize("quality", [2, 3, 4, 5])
def test_the_shipped_weights_code_a_photograph(quality, photograph, tmp_path):
    from lic_lab.codecs.weights import cards

    have = [card["quality"] for card in cards("mlic+")]
    if quality not in have:
        pytest.skip(f"no weights for quality {quality} in this checkout; it has {have}")
    coded, decoded = tmp_path / "a.lic", tmp_path / "a.png"
    assert cli.main(["compress", str(photograph), "-q", str(quality), "-o", str(coded)]) == 0
    assert cli.main(["decompress", str(coded), "-o", str(decoded)]) == 0
    difference = np.asarray(Image.open(decoded)).astype(float) - np.asarray(Image.open(photograph))
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 24


def test_complexity_counts_what_the_library_counts(capsys):
    from lic_lab.codecs import registry
    from lic_lab.evaluation.complexity import complexity

    argv = ["complexity", "-c", "mean-scale", "-c", "hyperprior", "--size", "small"]
    assert cli.main([*argv, "--height", "100", "--width", "65", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [codec["codec"] for codec in found] == ["mean-scale", "hyperprior"]
    for codec in found:
        assert {"size", "height", "width", "deconvolutions", "modules", "totals"} < set(codec)
        expected = complexity(registry.create(codec["codec"], "small"), 100, 65)
        for row, counted in zip(codec["modules"], expected, strict=True):
            assert (row["module"], row["macs"]) == (counted["module"], counted["macs"])
            assert row["macs_per_pixel"] == pytest.approx(counted["macs"] / 6500)
        of = {row["module"]: row["macs"] for row in codec["modules"]}
        assert codec["totals"]["all"]["macs"] == sum(of.values())
        assert codec["totals"]["encoder"]["macs"] == sum(of.values()) - of["g_s"]
        assert codec["totals"]["decoder"]["macs"] == sum(of.values()) - of["g_a"] - of["h_a"]
        assert codec["totals"]["all"]["parameters"] == registry.parameters(codec["codec"], "small")

    assert cli.main(argv) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("512 x 768 pixels")
    assert out[1].split() == ["codec", "module", "parameters", "kMAC/pixel"]
    assert sum("= decoder" in line for line in out) == 2


def test_published_complexity_stands_beside_ours(capsys):
    assert cli.main(["complexity", "--published", "-c", "hyperprior", "-c", "cwam", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["codec"] for row in rows} == {"hyperprior", "cwam"}
    (parameters,) = [row for row in rows if row["codec"] == "hyperprior" and row["quantity"] == "parameters"]
    assert parameters["ours"] == pytest.approx(parameters["value"], rel=0.001)
    assert all(row["ours"] is None for row in rows if row["codec"] == "cwam")  # we have no such codec
    assert all(row["source"] for row in rows)
    assert cli.main(["complexity", "--published", "-c", "mlic+"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert "published" in head and "ours" not in head and "nothing here that we count" in rows[-1]
    assert cli.main(["complexity", "--published", "-c", "mlic", "--height", "64"]) == 0
    assert "with --height and --width: 512 x 768" in capsys.readouterr().out


MISTAKES = {
    "no such image": (["trace", "{tmp}/none.png"], "there is no file"),
    "no image": (["trace", "{tmp}/text.png"], "can't be read as an image"),
    "too large": (["compress", "{tmp}/huge.png", "-o", "{tmp}/o"], "25 megapixels and would take about"),
    "unknown codec": (["trace", "{image}", "-c", "jpeg"], "no weights for 'jpeg'|no codec is called 'jpeg'"),
    "no weights": (["trace", "{image}", "-q", "6"], "no weights for quality 6; it has 2"),
    "unknown part": (["trace", "{image}", "--swap", "lokal=none"], "lokal"),
    "unknown component": (["trace", "{image}", "--swap", "local=swin"], "swin"),
    "no meaning": (
        ["trace", "{image}", "--swap", "channel=none", "--swap", "global=intra"],
        "needs the channel context",
    ),
    "swap without name": (["trace", "{image}", "--swap", "local"], "PART=NAME"),
    "no folder to write to": (["compress", "{image}", "-o", "{tmp}/none/o"], r"no folder .*make it first"),
    "a folder to write to": (["compress", "{image}", "-o", "{tmp}"], "is a folder; give a file's name"),
    "a folder that is not there yet": (["compress", "{image}", "-o", "{tmp}/new/"], "is a folder; give a file's name"),
    "a file for a folder": (["compress", "{image}", "-o", "{tmp}/text.png/o"], "text.png is a file, no folder"),
    "a name too long": (["compress", "{image}", "-o", "{tmp}/" + 300 * "n"], "File name too long"),
    "the input as output": (["compress", "{image}", "-o", "{image}"], "is the input, which would be lost"),
    "a folder for an image": (["trace", "{tmp}"], "is a folder; give an image in it"),
    "an image's name too long": (["trace", "{tmp}/" + 300 * "n"], "File name too long"),
    "nobody's home": (["trace", "~nobody there/a.png"], "there is no file ~nobody"),
    "an address": (["trace", "https://example.org/a.png"], "download it first"),
    "not a stream": (["decompress", "{image}", "-o", "{tmp}/o.png"], "no .lic file"),
    "no stream": (["decompress", "{tmp}/none", "-o", "{tmp}/o.png"], "none: No such file"),
    "lossy output": (["decompress", "{image}", "-o", "{tmp}/o.jpg"], "ends in .png"),
    "no such codec to count": (["complexity", "-c", "jpeg"], "no codec is called 'jpeg'"),
    "no such size to count": (["complexity", "-c", "charm", "--size", "released"], "no size 'released'"),
    "nothing published": (["complexity", "--published", "-c", "no"], "no published complexity of 'no'; there is of"),
    "published of another size": (["complexity", "--published", "--size", "small"], "leave --size"),
    "no data": (["ablation"], "LIC_LAB_DATA is not set"),
    "swap beside a rate point": (
        ["evaluate", "{image}", "-c", "mlic+:q=2", "--swap", "local=none", "-o", "{tmp}/r.csv"],
        r"don't apply to mlic\+:q=2.*or give mlic\+ alone",
    ),
    "quality beside a rate point": (
        ["evaluate", "{image}", "-c", "mlic", "-c", "mlic+:q=2", "-q", "2", "-o", "{tmp}/r.csv"],
        r"don't apply to mlic\+:q=2",
    ),
    "quality of classical codecs": (
        ["evaluate", "{image}", "-c", "jpeg", "-c", "webp:quality=30", "-q", "2", "-o", "{tmp}/r.csv"],
        "for learned codecs, and none of jpeg, webp:quality=30 is one",
    ),
    "swap of classical codecs": (
        ["evaluate", "{image}", "-c", "jpeg", "--swap", "local=none", "-o", "{tmp}/r.csv"],
        "for learned codecs, and none of jpeg is one",
    ),
    "empty folder": (["ablation", "{tmp}/empty"], "no image in the folder"),
    "no training images": (
        ["train", "shared", "joint", "--lambda", "1", "--checkpoint", "{tmp}/c.pt", "--data", "{tmp}/empty"],
        "no images in",
    ),
    "odd crop": (
        ["train", "shared", "joint", "--lambda", "1", "--data", ".", "--crop", "99"],
        "must be a multiple of",
    ),
    "no such stage": (["train", "shared", "gsdn", "--lambda", "1", "--data", "."], "joint, finish, refine"),
    "nothing to start from": (["train", "global-reference", "--lambda", "1", "--data", "."], "give --start"),
    "checkpoint in the repository": (
        [
            "train",
            "shared",
            "joint",
            "--lambda",
            "1",
            "--data",
            ".",
            "--checkpoint",
            str(Path(lab.__file__).parent / "joint.pt"),
        ],
        "in the git repository",
    ),
    "no checkpoint to start from": (
        ["train", "shared", "--lambda", "1", "--data", ".", "--start", "no"],
        "--start is no",
    ),
}


@pytest.mark.parametrize(("argv", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_in_one_line(argv, message, untrained_weights, photograph, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LIC_LAB_DATA", raising=False)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    Image.new("1", (5000, 5000)).save(tmp_path / "huge.png")
    assert cli.main([arg.format(tmp=tmp_path, image=photograph) for arg in argv]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"lic-lab {argv[0]}: ")
    assert re.search(message, said.err)


@pytest.fixture
def in_this_process(monkeypatch):
    """`evaluate` runs its jobs in a thread."""

    @contextmanager
    def executor(args):
        yield partial(ThreadPoolExecutor, 1), 2

    monkeypatch.setattr(evaluate, "_executor", executor)


def measured(capsys):
    return [(row["codec"], row["configuration"]) for row in json.loads(capsys.readouterr().out)]


def test_evaluate_takes_learned_codecs_with_and_without_a_rate_point(
    in_this_process, untrained_weights, photograph, tmp_path, capsys
):
    argv = ["evaluate", str(photograph), "--json", "-o"]
    assert cli.main([*argv, str(tmp_path / "1.db"), "-c", "mlic+:q=2,refinement=none", "-c", "jpeg:quality=30"]) == 0
    assert measured(capsys) == [("jpeg", "quality=30"), ("mlic+", "q=2,refinement=none")]
    swaps = ["-q", "2", "--swap", "local=none"]
    assert cli.main([*argv, str(tmp_path / "2.db"), "-c", "mlic+", "-c", "jpeg:quality=30", *swaps]) == 0
    assert measured(capsys) == [("jpeg", "quality=30"), ("mlic+", "q=2,local=none")]


def test_evaluate_counts_a_rate_point_once(in_this_process, photograph, tmp_path, capsys):
    argv = [
        "evaluate",
        str(photograph),
        "-c",
        "jpeg:quality=30",
        "-c",
        "jpeg:quality=30",
        "-o",
        str(tmp_path / "r.csv"),
    ]
    assert cli.main(argv) == 0
    assert "1/1" in capsys.readouterr().err


def test_the_summary_is_of_the_newest_rows(in_this_process, photograph, tmp_path, capsys):
    output = tmp_path / "r.csv"
    argv = ["evaluate", str(photograph), "-c", "jpeg:quality=30", "-o", str(output), "--json"]
    assert cli.main(argv) == 0
    there = capsys.readouterr().out
    output.unlink()  # as when the process is killed
    assert cli.main(["evaluate", "--summary", "-o", str(output), "--json"]) == 0
    assert capsys.readouterr().out == there


def test_the_summary_says_when_the_images_differ(in_this_process, photograph, tmp_path, capsys):
    other = tmp_path / "other.png"
    Image.open(photograph).rotate(180).save(other)
    output = ["-o", str(tmp_path / "r.db")]
    assert cli.main(["evaluate", str(photograph), "-c", "jpeg:quality=30", *output]) == 0
    assert "not measured on the same images" not in capsys.readouterr().err
    assert cli.main(["evaluate", str(other), "-c", "jpeg:quality=40", *output]) == 0
    assert "not measured on the same images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: COMMAND"),
        (["bogus"], "invalid choice: 'bogus'"),
        (["trace"], "required: IMAGE"),
        (["trace", "a.png", "-q", "high"], "invalid int value: 'high'"),
        (["train", "shared", "--steps", "0"], "0 is not above zero"),
        (["train", "shared", "--lambda", "nan"], "nan is not above zero"),
        (["train", "shared", "--seed", "-1"], "-1 is below zero"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(argv, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(argv)
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_json_has_no_infinity(capsys):
    console.print_json({"psnr": float("inf"), "bpp": [float("nan"), 1.5]})
    assert json.loads(capsys.readouterr().out) == {"psnr": None, "bpp": [None, 1.5]}


def run(*argv, **environment):
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, env=os.environ | environment, timeout=120
    )


def test_a_mistake_ends_the_process_with_status_2_and_no_traceback(tmp_path):
    found = run("-m", "lic_lab.cli", "trace", "image.png", LIC_LAB_WEIGHTS=str(tmp_path))
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert "no weights for 'mlic+'" in found.stderr


def test_train_passes_its_arguments_on(untrained_weights, tmp_path, monkeypatch, capsys):
    from lic_lab.training import recipes
    from lic_lab.training.recipes import Run, Settings, recipe_of

    seen = []
    monkeypatch.setattr(recipes, "launch", lambda work, workers: seen.append((*work.args, workers)))
    for i in range(2):
        Image.effect_noise((300, 280), 50 + i).convert("RGB").save(tmp_path / f"{i}.png")
    options = ["--lambda", "0.013", "--data", str(tmp_path)]
    shipped = str(untrained_weights / "untrained.safetensors")
    argv = ["train", "shared", "finish", *options, "--steps", "7", "--checkpoint", str(tmp_path / "runs" / "c.pt")]
    assert cli.main(argv) == 2
    assert "there is no joint.pt beside" in capsys.readouterr().err
    argv += ["--start", shipped]
    argv += ["--lr", "0.01", "--warmup", "1", "--decay", "2", "--batch", "3", "--crop", "64", "--workers", "1"]
    assert cli.main([*argv, "--bf16", "--linear-steps", "4", "--seed", "5"]) == 0
    settings = Settings(7, 0.01, 1, 2, batch=3, crop=64, workers=1, seed=5, linear_steps=4, bf16=True)
    to = str(tmp_path / "runs" / "c.pt")
    assert seen == [(Run("shared", "finish", 0.013, str(tmp_path), to, settings, shipped), 1)]
    assert capsys.readouterr().out == f"{tmp_path / 'runs' / 'c.pt'}\n"

    monkeypatch.setenv("LIC_LAB_CACHE", str(tmp_path / "cache"))
    assert cli.main(["train", "shared", *options, "--seed", "3"]) == 0  # all stages, with their own settings
    runs = tmp_path / "cache" / "runs" / "shared-0.013-3"
    recipe, start = recipe_of("shared"), None
    for (run, workers), stage in zip(seen[1:], recipe.stages, strict=True):
        assert run.settings == replace(stage.settings, seed=3)
        assert (run.stage, run.start, run.checkpoint) == (stage.name, start, str(runs / f"{stage.name}.pt"))
        assert workers == stage.settings.workers
        start = run.checkpoint
    assert capsys.readouterr().out == f"{start}\n"


def test_the_largest_image_is_that_of_image():
    from lic_lab.image import LARGEST

    assert cli.MAX_PIXELS == LARGEST


def test_complexity_counts_deconvolutions_as_the_library_does():
    from lic_lab.cli import complexity
    from lic_lab.evaluation.complexity import DECONVOLUTIONS

    assert complexity.DECONVOLUTIONS == DECONVOLUTIONS


OUTPUTS = {  # the shell's redirection, and what is told on stderr
    ">/dev/full": "lic-lab codecs: stdout: No space left on device",
    ">&-": "lic-lab: stdout is closed; send it to a file, or to /dev/null",
    "| true": "lic-lab codecs: stdout: Broken pipe",
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="other systems have no device that is full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("to", OUTPUTS)
def test_an_output_that_is_closed_or_full_is_told_in_one_line(to, unbuffered):
    listing = (
        f"{sys.executable} -c 'import time; from lic_lab import cli; {{}} raise SystemExit(cli.main([\"codecs\"]))'"
    )
    wait = "time.sleep(0.3);" if "|" in to else ""
    found = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {listing.format(wait)} {to}"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    assert found.returncode == 2
    assert found.stderr == f"{OUTPUTS[to]}\n"
    assert not found.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="other systems have no device that is full")
def test_a_full_stderr_and_help_that_can_not_be_written_end_with_status_2():
    main = f"{sys.executable} -m lic_lab.cli"
    for command in (f"{main} trace none.png 2>/dev/full", f"{main} --help >/dev/full"):
        found = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert found.returncode == 2
        assert found.stderr in ("", "lic-lab: stdout: No space left on device\n")


def test_a_name_that_the_output_can_not_show_is_shown_escaped(untrained_weights, photograph, tmp_path):
    (tmp_path / "caf\xe9.png").write_bytes(photograph.read_bytes())
    argv = ["compress", "caf\xe9.png", "-o", os.fsdecode(b"caf\xe9.lic")]
    script = f"import os, sys; os.chdir(sys.argv[1]); from lic_lab import cli; sys.exit(cli.main({argv!r}))"
    found = run("-c", script, str(tmp_path), PYTHONIOENCODING="ascii")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith(r"caf\udce9.lic: ")
    assert lab.Bitstream.from_bytes((tmp_path / os.fsdecode(b"caf\xe9.lic")).read_bytes()).width == 101


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), sqlite3.OperationalError("database is locked"), MemoryError()]
)
def test_whatever_the_system_refuses_is_told_in_one_line(error, monkeypatch, capsys):
    from lic_lab.codecs import registry

    def refused():
        raise error

    monkeypatch.setattr(registry, "listing", refused)
    assert cli.main(["codecs"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("lic-lab codecs: ") and said.count("\n") == 1 and len(said) > 30
    error = KeyboardInterrupt()
    assert cli.main(["codecs"]) == 130
    assert capsys.readouterr().err == "lic-lab codecs: interrupted\n"


@pytest.mark.parametrize("first", ["lic_lab as lab; lab.create('mean-scale', 'small')", "lic_lab.tracing"])
def test_no_warning_of_others_is_a_user_s_first_line(first):
    found = run("-W", "error::FutureWarning", "-c", f"import {first}")
    assert (found.returncode, found.stderr) == (0, "")


# What is written


def links(photograph, folder):
    """Names of the same file."""
    (folder / "same.png").write_bytes(photograph.read_bytes())
    (folder / "soft.png").symlink_to("same.png")
    (folder / "hard.png").hardlink_to(folder / "same.png")
    return ["same.png", "./same.png", "soft.png", "hard.png"]


def test_an_output_that_is_the_input_under_any_name_is_refused(untrained_weights, photograph, tmp_path, capsys):
    for name in links(photograph, tmp_path):
        assert cli.main(["compress", str(tmp_path / "same.png"), "-o", f"{tmp_path}/{name}"]) == 2
        assert "is the input" in capsys.readouterr().err
    assert (tmp_path / "same.png").read_bytes() == photograph.read_bytes()
    assert cli.main(["compress", str(photograph), "-o", str(tmp_path / "a.png")]) == 0
    assert cli.main(["decompress", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.png")]) == 2
    assert "is the input" in capsys.readouterr().err


def test_a_file_that_can_not_be_written_whole_leaves_what_was_there(tmp_path, monkeypatch):
    target, link = tmp_path / "photo.v2", tmp_path / "link"
    link.symlink_to(target)
    with written(link) as new:
        new.write_text("first")
    assert link.is_symlink() and target.read_text() == "first"
    target.chmod(0o640)
    with pytest.raises(OSError, match="full") as told, written(target) as new:
        new.write_text("half")
        raise OSError(28, "full")
    assert told.value.filename == str(target)
    with pytest.raises(RuntimeError), written(target) as new:
        assert new.parent == tmp_path and new.suffix == ".v2" and new.name.startswith(".")
        raise RuntimeError
    assert target.read_text() == "first"
    with written(target) as one, written(target) as other:  # two at a time don't meet
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "photo.v2"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="other systems have no device that is full")
def test_a_device_is_written_to_and_stays_one(untrained_weights, photograph, capsys):
    assert cli.main(["compress", str(photograph), "-o", "/dev/full"]) == 2
    assert capsys.readouterr().err == "lic-lab compress: /dev/full: No space left on device\n"
    assert Path("/dev/full").is_char_device()


# What is in a folder


def strangers(folder):
    """What other programs leave in folders."""
    for name in ("._a.png", ".hidden.png", "._shared-q2.json", "Thumbs.db", ".DS_Store"):
        (folder / name).write_bytes(b"\0\5\26\7")
    for name in ("sub.png", "sub.json", ".ipynb_checkpoints"):
        (folder / name).mkdir()
    (folder / ".ipynb_checkpoints" / "a.png").write_bytes(b"")
    (folder / "settings.json").write_text('{"theme": "dark"}')
    (folder / "list.json").write_text("[1, 2]")


def test_strangers_beside_the_weights_are_passed_over(_untrained, photograph, tmp_path, monkeypatch, capsys):
    from lic_lab.codecs.weights import cards

    monkeypatch.setenv("LIC_LAB_WEIGHTS", str(tmp_path / "w"))
    shutil.copytree(_untrained, tmp_path / "w")
    strangers(tmp_path / "w")
    card = json.loads((tmp_path / "w" / "untrained.json").read_text())
    (tmp_path / "w" / "untrained (1).json").write_text(json.dumps(card | {"sha256": "of before"}))
    (tmp_path / "w" / "older.json").write_text(json.dumps({k: v for k, v in card.items() if k != "lambda"}))
    assert cards() == [card]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LIC_LAB_WEIGHTS", "~/w")
    assert cards("mlic") == [card]
    (tmp_path / "w" / "untrained.json").unlink()
    assert cli.main(["trace", str(photograph)]) == 2
    assert "older.json has no lambda" in capsys.readouterr().err
    (tmp_path / "w" / "untrained.json").write_text("{")  # our own, damaged
    assert cli.main(["trace", str(photograph)]) == 2
    assert "untrained.json can't be read" in capsys.readouterr().err
    monkeypatch.setenv("LIC_LAB_WEIGHTS", "")
    assert {"mlic+"} <= {served for card in cards() for served in card["serves"]}


def test_strangers_among_images_are_passed_over_and_what_can_not_be_read_is_told(
    untrained_weights, photograph, tmp_path, capsys
):
    strangers(tmp_path)
    assert cli.main(["ablation", str(tmp_path)]) == 2
    assert "there is no image in the folder" in capsys.readouterr().err
    (tmp_path / "broken.png").write_text("no image")
    assert cli.main(["ablation", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "broken.png can't be read" in said and "no image to measure" in said.splitlines()[-1]
    Image.open(photograph).convert("RGBA").save(tmp_path / "a.png")
    Image.open(photograph).convert("L").save(tmp_path / "b.png")
    assert cli.main(["ablation", str(tmp_path), "--json"]) == 0
    out, said = capsys.readouterr()
    assert "broken.png can't be read" in said and "b.png was grey" in said
    assert json.loads(out)[0]["bpp"] > 0
