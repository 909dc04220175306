"""`slurm submit`: what it writes, and what it refuses before Slurm is asked."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

Run = Callable[..., Result]
WHERE = ("--bootstrap", "k1:9092,k2:9092", "--group", "live", "--tiled", "http://t:8000/api/v1")


def submit(run: Run, config: Path, folder: Path, *options: str) -> Result:
    topics = ("--topic", "raw", "--topic", "other")
    where = (*WHERE, *topics, "--config", str(config), "--folder", str(folder))
    return run("slurm", "submit", *where, *options)


def change(config: Path, **sections: Any) -> None:
    tree = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**tree, **sections}))


def test_a_dry_run_writes_and_shows_the_script(run: Run, config_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a job"
    options = ("--nodes", "2", "--gpus-per-node", "4", "--time", "1-00:00:00", "--dry-run")
    done = submit(run, config_file, folder, "--partition", "gpu", "--from", "earliest", *options)
    assert done.exit_code == 0, done.stderr
    script = (folder / "consume.sbatch").read_text()
    assert done.stdout == script
    assert "#SBATCH --array=0-7\n" in script
    assert "#SBATCH --partition=gpu\n" in script
    words = shlex.split(script.partition("command=(")[2].partition("\n)")[0])
    assert words[words.index("--config") + 1] == str(config_file)
    assert words[words.index("--from") + 1] == "earliest"
    assert [words[i + 1] for i, word in enumerate(words) if word == "--topic"] == ["raw", "other"]


def test_cpu_nodes_get_one_consumer_each(
    run: Run, lines: Any, config_file: Path, tmp_path: Path
) -> None:
    done = submit(
        run, config_file, tmp_path, "--nodes", "3", "--gpus-per-node", "0", "--dry-run", "--json"
    )
    (reported,) = lines(done)
    assert reported == {"job_id": None, "script": str(tmp_path / "consume.sbatch"), "tasks": 3}


def test_options_go_before_the_configuration_of_the_site(
    run: Run, config_file: Path, tmp_path: Path
) -> None:
    site = {"partition": "cpu", "account": "xray", "prologue": ["module load cuda"]}
    change(config_file, slurm={**site, "sbatch": ["--constraint=a100"]})
    options = ("--partition", "gpu", "--sbatch=--gres=gpu:a100:1", "--dry-run")
    script = submit(run, config_file, tmp_path, *options).stdout
    assert "#SBATCH --partition=gpu\n" in script
    assert "#SBATCH --account=xray\n" in script
    assert script.index("--constraint=a100") < script.index("--gres=gpu:a100:1")
    assert "\nmodule load cuda\n" in script


def test_only_the_path_of_the_key_reaches_the_job(
    run: Run, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILED_API_KEY", "0123456789abcdef")
    refused = submit(run, config_file, tmp_path, "--dry-run")
    assert refused.exit_code == 2
    assert "tiled.api_key_file" in refused.stderr
    change(config_file, tiled={"api_key_file": str(tmp_path / "key")})
    missing = submit(run, config_file, tmp_path, "--dry-run")
    assert "which is not there" in missing.stderr
    (tmp_path / "key").write_text("fedcba9876543210")
    done = submit(run, config_file, tmp_path, "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "0123456789abcdef" not in done.stdout
    assert "fedcba9876543210" not in done.stdout


def test_without_slurm_the_remedy_is_reported(
    run: Run, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = submit(run, config_file, tmp_path / "job")
    assert done.exit_code == 2
    assert "there is no sbatch here" in done.stderr


def test_what_the_configuration_reports_need_not_be_given(
    run: Run, config_file: Path, tmp_path: Path
) -> None:
    options = ("--config", config_file, "--folder", tmp_path, "--dry-run")
    missing = run("slurm", "submit", *options)
    assert missing.exit_code == 2
    assert all(key in missing.stderr for key in ("kafka.bootstrap", "kafka.topics", "tiled.uri"))
    kafka = {"bootstrap": "k:9092", "topics": ["raw"]}
    change(config_file, kafka=kafka, tiled={"uri": "http://t:8000"})
    done = run("slurm", "submit", *options)
    assert done.exit_code == 0, done.stderr
    assert "--topic" not in done.stdout


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_a_folder_that_nothing_was_submitted_from_is_reported(
    run: Run, tmp_path: Path, command: str
) -> None:
    done = run("slurm", command, "--folder", tmp_path)
    assert done.exit_code == 2
    assert "nothing was submitted from" in done.stderr
