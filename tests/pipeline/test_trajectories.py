"""Methods that unroll a student's training, from the command line to students."""

from __future__ import annotations

import json

SHORT = {"iterations": 2, "inner_steps": 2}
EXPERTS = {
    "max_start_epoch": 1,
    "expert_epochs": 1,
    "pool.count": 2,
    "pool.epochs": 1,
    "pool.network": "convnet1_w4_in",
}


def words(method: str, settings: dict[str, object]) -> list[str]:
    return [f"methods.{method}.{key}={value}" for key, value in settings.items()]


def test_all_of_them_end_to_end(workspace):
    done = workspace.run(
        "method=[mtt,ftd,tesla,bptt,random]",
        "labels=hard",
        "evaluation.protocol=mtt",
        "evaluation.students=[convnet1_w4_in]",
        *(word for method in ("mtt", "ftd", "tesla") for word in words(method, SHORT | EXPERTS)),
        *words("bptt", SHORT | {"network": "convnet1_w4_in", "real_images": 16}),
    )
    assert [row["method"] for row in done.rows] == ["mtt", "ftd", "tesla", "bptt", "random"]
    assert [row["pool"] for row in done.rows] == ["experts 1-1 (2)"] * 3 + [""] * 2
    assert workspace.kinds()["trajectory"] == 4, "two experts of MTT and TESLA, and two flat ones"
    assert len({row["fingerprints"]["images"] for row in done.rows}) == 5
    for row in done.rows[:4]:
        students, images = (
            json.loads((workspace.store / kind / row["fingerprints"][name] / "manifest.json").read_text())
            for kind, name in (("students", "student"), ("images", "images"))
        )
        learned = images["facts"]["learned_lr"]
        assert students["content"]["protocol"]["lr"] == learned > 0


def test_the_runs_prior_pool_will_do_and_labels_the_images(workspace):
    settings = SHORT | {"max_start_epoch": 2, "expert_epochs": 1, "pool": "null"}
    done = workspace.run("method=[mtt,random]", "pool.training.save_every=1", *words("mtt", settings))
    assert [(row["pool"], row["labels"]) for row in done.rows] == [("prior 1-3 (2)", "stored")] * 2
    assert workspace.kinds()["trajectory"] == 1


def test_what_cannot_work_ends_before_any_training(workspace):
    done = workspace.run("method=[mtt,random]", *words("mtt", SHORT | EXPERTS | {"max_start_epoch": 2}), code=2)
    assert "needs the weights of epochs up to 2" in done.sentence
    assert not workspace.manifests()
