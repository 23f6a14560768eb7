"""The student probe in a whole run: its curve is in every place, and the images never know of it."""

import csv


def test_a_probe_changes_no_image_and_is_drawn(finished, tmp_path):
    workspace = finished.copy(tmp_path, without=("images", "labels", "students"))
    run = workspace.run("synthesis.probe_every=3", "method=[teddy]", "stages=[pool,synthesis,labels,evaluation,report]")
    plain = finished.workspace.results()
    assert all(one == plain[name] for name, one in workspace.results().items())
    with (run.folder / "probe_teddy.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["block"], row["iteration"]) for row in rows] == [("0", "1"), ("0", "3"), ("0", "6")]
    assert all(0 < float(row["top1"]) <= 100 for row in rows)
    curve = run.curves("synthesis/teddy/probe_top1")["synthesis/teddy/probe_top1"]
    assert curve == [(step, float(row["top1"])) for step, row in zip((0, 2, 5), rows, strict=True)]
    assert "Student probe" in (run.folder / "index.html").read_text()
