"""An operator's round trip in a browser: edit, check, try, save, submit to Slurm, watch, cancel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bluesky_tiled_plugins import TiledWriter
from kafka_broker import Broker, create_topic
from live_pages import LivePage, chromium, spread
from raw_runs import KEY as IMAGE_KEY
from raw_runs import feed, hdf5_run
from scan_publisher import expected_counts
from served import KEY, Server
from slurm_cluster import SlurmCluster
from slurm_site import PARTITIONS, SlurmSite
from tiled_servers import RunWriting, start_document

from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.web import page_address, viewing_key

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

TOPIC, FRAMES, THRESHOLD = "operated", 2, 0.99


@pytest.fixture
def site(slurm: SlurmCluster, broker: Broker, tmp_path: Path) -> Iterator[SlurmSite]:
    """A server with `--operate` that finds the cluster, and its own configuration."""
    own = tmp_path / "own.yaml"
    server = Server(
        tmp_path,
        *("--directory", str(tmp_path), "--operate", str(own)),
        SLURM_CONF=slurm.environment["SLURM_CONF"],
    )
    one = SlurmSite(broker, server, slurm)
    tree = yaml.safe_load(one.config.read_text())
    tree["kafka"] |= {"bootstrap": broker.bootstrap, "topics": [TOPIC], "group": TOPIC}
    tree["tiled"]["uri"] = server.uri
    tree["queue"] = {"workers": 1}
    own.write_text(yaml.safe_dump(tree))
    create_topic(broker.bootstrap, TOPIC, PARTITIONS)
    server.start()
    yield one
    server.close()


@pytest.fixture
def tab(site: SlurmSite) -> Iterator[LivePage]:
    with chromium() as browser:
        page = LivePage(browser.new_page(viewport={"width": 1280, "height": 900}))
        yield page.open(page_address(site.server.uri.removesuffix("/api/v1"), KEY))
        # The raw run of the scan is not in Tiled, so a request for its images gets 404.
        assert all("404" in error for error in page.errors), page.errors


def measured(site: SlurmSite) -> tuple[str, str]:
    """Store a raw run and a derived run of it; return both uids."""
    frame = np.random.default_rng(1).poisson(expected_counts()).astype("<u2")
    documents = hdf5_run(site.folder / "raw.h5", frame[None])
    documents[1][1]["data_keys"][IMAGE_KEY]["dtype_numpy"] = "<u2"
    feed(TiledWriter(site.server.catalog("raw")), documents)
    raw_uid = documents[0][1]["uid"]
    start = start_document(raw_uid=raw_uid, sample_name="measured")
    start["gixi"] |= {"raw_stream": "primary", "raw_data_key": IMAGE_KEY}
    run = RunWriting(site.server.catalog("gixi"), site.folder / "results", start)
    run.flush([0])
    run.stop(n_frames=1)
    return raw_uid, run.uid


def button(tab: LivePage, name: str) -> Any:
    return tab.page.get_by_role("button", name=name, exact=True)


def sign_in(tab: LivePage, key: str) -> None:
    tab.page.get_by_label("API key that may write").fill(key)
    button(tab, "Start").click()


def task_states(tab: LivePage) -> list[str]:
    return [str(one.get_attribute("data-state")) for one in tab.all("task").all()]


def task_partitions(tab: LivePage) -> list[int]:
    return [int(one.get_attribute("data-partitions") or 0) for one in tab.all("task").all()]


def edit_check_and_try(tab: LivePage) -> None:
    threshold = tab.page.locator("[id='detector.score_threshold']")
    threshold.fill("7")
    button(tab, "Check").click()
    tab.until(lambda: "less than or equal to 1" in tab.page.inner_text("[data-testid=problem]"))
    threshold.fill(str(THRESHOLD))
    button(tab, "Check").click()
    tab.until(lambda: tab.all("finding").count() == 5, 300)
    assert tab.all("problem").count() == 0
    button(tab, "Try on frame 0").click()
    tab.until(lambda: tab.all("trial").count() == 1, 300)
    before, after = (
        int(tab.all(f"trial-{side}").get_attribute("data-peaks") or -1)
        for side in ("before", "after")
    )
    assert before > after >= 0
    tab.until(lambda: spread(tab.all("trial-image-after")) > 8)


def submit_watch_and_cancel(tab: LivePage, site: SlurmSite) -> str:
    """Let consumers of the page analyse a scan; return its raw run."""
    tab.page.get_by_label("consumers").fill("2")
    button(tab, "Submit to Slurm").click()
    tab.until(lambda: task_states(tab) == ["RUNNING", "RUNNING"], 300)
    shares = [PARTITIONS // 2, PARTITIONS // 2]
    tab.until(lambda: task_partitions(tab) == shares, 300)  # both have joined their group
    scan = site.publish(TOPIC, 1, FRAMES, 0.1)
    scan.finish()
    catalogue = site.server.catalog("gixi")
    tab.until(lambda: len(queries.runs_for(catalogue, scan.runs[0])) == 1, 300)
    (derived,) = queries.runs_for(catalogue, scan.runs[0])
    state = tab.run(derived.start["uid"]).get_by_test_id("state")
    tab.until(lambda: state.count() and state.inner_text() == "complete", 300)
    shown = tab.all("jobs").locator("summary")
    logs = {"log of consumer-0", "log of consumer-1"}
    tab.until(lambda: logs <= set(shown.all_inner_texts()))
    button(tab, "Cancel the consumers").click()
    tab.until(lambda: task_states(tab) == ["COMPLETED", "COMPLETED"], 300)
    tab.until(lambda: button(tab, "Cancel the consumers").count() == 0)
    return scan.runs[0]


@pytest.mark.slow
def test_an_operator_edits_checks_tries_submits_watches_and_cancels(
    tab: LivePage, site: SlurmSite
) -> None:
    raw_uid, derived_uid = measured(site)
    tab.until(lambda: tab.run(derived_uid).count() == 1)
    tab.run(derived_uid).click()
    button(tab, "Operate").click()
    sign_in(tab, viewing_key(KEY))
    tab.until(lambda: "a viewer's key only reads" in tab.all("operate").inner_text())
    assert all("403" in error for error in tab.errors)
    tab.errors.clear()
    sign_in(tab, KEY)
    tab.until(lambda: tab.all("config-form").count() == 1)

    edit_check_and_try(tab)
    tab.page.get_by_label("Note").fill("only sure peaks")
    button(tab, "Save as a new version").click()
    tab.until(lambda: "only sure peaks" in tab.all("operate").inner_text())
    button(tab, "Analyse this run again").click()
    tab.until(lambda: tab.all("reprocessing").count() == 1, 300)
    tab.until(lambda: tab.all("reprocessing").first.get_attribute("data-state") == "done", 400)
    scanned = submit_watch_and_cancel(tab, site)

    for action in ("check", "try", "save", "reprocess", "submit", "cancel"):
        entry = f"the server's own key: {action} done"
        tab.until(lambda entry=entry: entry in tab.all("record").inner_text())
    catalogue = site.server.catalog("gixi")
    (again,) = [
        run for run in queries.runs_for(catalogue, raw_uid) if run.start["uid"] != derived_uid
    ]
    (consumed,) = queries.runs_for(catalogue, scanned)
    for run in (again, consumed):
        assert run.provenance["config"]["detector"]["score_threshold"] == THRESHOLD
