"""The Hugging Face form, read back by ``datasets`` and by ``teddy.load``."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import DatasetCard

import teddy
from teddy.export.__main__ import main


@pytest.fixture
def opened(make_set):
    return make_set("stored", tiles=2)


@pytest.fixture
def folder(opened, tmp_path):
    assert main([str(opened.path), "--to", "hf", "--out", str(tmp_path / "hub")]) == 0
    return tmp_path / "hub"


def test_images_and_labels_come_back_bit_for_bit(opened, folder, tmp_path):
    table = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(table) == ["train"]
    rows = table["train"]
    assert rows.features["label"].names == [f"class {index:04d}_c" for index in range(4)]
    pixels = np.stack([np.array(row["image"]) for row in rows]).transpose(0, 3, 1, 2)
    assert np.array_equal(pixels, opened.images.images.numpy()), "tiles as networks see them"
    assert rows["label"][:] == opened.images.labels.tolist()


def test_teddy_loads_the_same_folder_with_its_soft_labels(opened, folder):
    data, original = teddy.load(folder), teddy.load(opened.path)
    for item in (0, 17):
        assert all(torch.equal(one, other) for one, other in zip(data[item], original[item], strict=True))


def test_a_dataset_of_this_form_is_exported_again(folder, tmp_path):
    assert main([str(folder), "--to", "hf", "--out", str(tmp_path / "again")]) == 0
    names = [sorted(path.relative_to(one) for path in one.rglob("*")) for one in (folder, tmp_path / "again")]
    assert names[0] == names[1]


def test_the_card_has_metadata_that_the_hub_reads_and_numbers_beside_the_baseline(folder):
    text = (folder / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    card = DatasetCard(text)
    assert card.data.license == metadata["license"] == "unknown"
    assert "licence of the real data is not known" in text
    assert card.data.configs[0]["data_files"][0]["path"] == "data/train-00000-of-00001.parquet"
    assert "| dm | hard | convnet3 | 51.0 ± 1.4 | 40.5 ± 0.7 |" in text
    assert "| paper | stored | convnet3 | 33.0 | – |" in text
    assert "Me, 2026" in text


def test_a_dry_run_lists_what_would_be_uploaded_and_sends_nothing(opened, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *args, **options: pytest.fail("sent"))
    out = tmp_path / "out"
    words = [str(opened.path), "--to", "hf", "--out", str(out), "--push", "me/four", "--dry-run", "--licence", "mit"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert not out.exists()
    assert main([word for word in words if word not in ("--push", "me/four", "--dry-run")]) == 0
    for path in {*out.rglob("*.*")} - {out / "README.md"}:  # without a name on the Hub, the card is another
        assert f"{path.relative_to(out)} ({path.stat().st_size:,} bytes)" in printed
    assert DatasetCard((out / "README.md").read_text()).data.license == "mit"


def test_a_push_sends_the_folder(opened, tmp_path, monkeypatch):
    sent = {}
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, name, **options: sent.update(name=name))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda self, **options: sent.update(options))
    out = tmp_path / "out"
    assert main([str(opened.path), "--to", "hf", "--out", str(out), "--push", "me/four"]) == 0
    assert sent == {"name": "me/four", "repo_id": "me/four", "folder_path": out, "repo_type": "dataset"}


@pytest.mark.parametrize("words", [["--push", "four"], ["--to", "imagefolder", "--dry-run"]])
def test_words_that_make_no_sense_are_refused(opened, tmp_path, words, capsys):
    assert main([str(opened.path), "--to", "hf", "--out", str(tmp_path / "out"), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
