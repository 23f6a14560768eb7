"""Sources with images packed in a few files: fashion_mini, idx, CIFAR."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets.mnist import read_image_file, read_label_file

from teddy.config.errors import UserError
from teddy.data.sources import idx
from teddy.data.sources.cifar import CIFAR10, CIFAR100
from teddy.data.sources.embedded import FashionMini
from teddy.data.sources.idx import FashionMNIST, parse_idx

FASHION = Path("/usr/share/datasets/fashion-mnist")
COUNTS = {"train": 30, "t10k": 20}


def write_idx(folder: Path, zipped: bool = True) -> dict[str, np.ndarray]:
    """Made-up Fashion-MNIST files; returns their content."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, content = np.random.default_rng(0), {}
    for stem, n in COUNTS.items():
        content[f"{stem}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        content[f"{stem}-labels-idx1-ubyte"] = (np.arange(n) % 10).astype(np.uint8)
    for name, array in content.items():
        header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
        raw = header + array.tobytes()
        (folder / f"{name}{'.gz' if zipped else ''}").write_bytes(gzip.compress(raw) if zipped else raw)
    return content


def write_cifar(folder: Path, source: type) -> dict[str, np.ndarray]:
    """Made-up binary files; returns the records (n, label bytes + 3072) of each."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, content = np.random.default_rng(1), {}
    names = [f"class{i}" for i in range(10)]
    for name in source.names[:-1]:
        records = rng.integers(0, 256, (20, source.label_bytes + 3072), dtype=np.uint8)
        records[:, : source.label_bytes] = rng.integers(0, 10, (20, source.label_bytes))
        (folder / name).write_bytes(records.tobytes())
        content[name] = records
    (folder / source.names[-1]).write_text("\n".join(names) + "\n\n")
    return content


def test_fashion_mini_is_balanced_and_complete():
    loaded = FashionMini().load()
    assert loaded.train.images.shape == (2000, 1, 28, 28)
    assert loaded.test.images.shape == (500, 1, 28, 28)
    assert torch.bincount(loaded.train.labels).tolist() == [200] * 10
    assert torch.bincount(loaded.test.labels).tolist() == [50] * 10
    assert list(loaded.class_ids) == sorted(loaded.class_ids)
    assert loaded.class_names[3] == "dress"
    assert loaded.class_ids[3] == "03_dress"
    assert FashionMini().fingerprint() == FashionMini().fingerprint()


def test_fashion_mini_takes_no_folder():
    with pytest.raises(UserError, match="no effect"):
        FashionMini(root="somewhere")


@pytest.mark.skipif(not FASHION.is_dir(), reason="Fashion-MNIST is not installed here (dataset-fashion-mnist)")
@pytest.mark.parametrize("split", ["train", "test"])
def test_fashion_mini_is_cut_from_fashion_mnist(split):
    whole, mini = (getattr(source.load(), split) for source in (FashionMNIST(str(FASHION)), FashionMini()))
    found = {image.numpy().tobytes(): index for index, image in enumerate(whole.images)}
    chosen = [found[image.numpy().tobytes()] for image in mini.images]
    assert len(set(chosen)) == len(mini)
    assert whole.labels[chosen].tolist() == mini.labels.tolist()


@pytest.mark.parametrize("inner", ["", "FashionMNIST/raw"])
@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_read_where_people_keep_them(tmp_path, inner, zipped):
    content = write_idx(tmp_path / inner, zipped)
    loaded = FashionMNIST(str(tmp_path)).load()
    for images, stem in ((loaded.train, "train"), (loaded.test, "t10k")):
        assert np.array_equal(images.images[:, 0], content[f"{stem}-images-idx3-ubyte"])
        assert np.array_equal(images.labels, content[f"{stem}-labels-idx1-ubyte"])


def test_idx_fingerprint_follows_the_content_and_not_the_place(tmp_path):
    for name in ("one", "two"):
        write_idx(tmp_path / name, zipped=False)
    before = FashionMNIST(str(tmp_path / "one")).fingerprint()
    assert before == FashionMNIST(str(tmp_path / "two")).fingerprint()
    labels = tmp_path / "two" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x00")
    assert before != FashionMNIST(str(tmp_path / "two")).fingerprint()


@pytest.mark.parametrize("damage", ["short", "no idx", "no gzip", "cut gzip"])
def test_damaged_idx_files_are_named(tmp_path, damage):
    write_idx(tmp_path, zipped="gzip" in damage)
    path = FashionMNIST(str(tmp_path)).files()["train-images-idx3-ubyte"]
    raw = path.read_bytes()
    path.write_bytes({"short": raw[:100], "no idx": b"text" * 30, "no gzip": b"text", "cut gzip": raw[:5000]}[damage])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.*fetch it again"):
        FashionMNIST(str(tmp_path)).load()


def test_idx_files_are_read_as_by_torchvision(tmp_path):
    write_idx(tmp_path, zipped=False)
    for name, read in (("t10k-images-idx3-ubyte", read_image_file), ("t10k-labels-idx1-ubyte", read_label_file)):
        path = tmp_path / name
        assert np.array_equal(parse_idx(path.read_bytes()), read(str(path)).numpy())


def test_labels_that_do_not_fit_their_images_are_named(tmp_path):
    write_idx(tmp_path, zipped=False)
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(UserError, match=r"t10k-labels.*damaged"):
        FashionMNIST(str(tmp_path)).load()


def test_missing_idx_files_say_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "SYSTEM_FOLDER", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"put train-images-idx3-ubyte\.gz.*dataset\.root"):
        FashionMNIST(str(tmp_path)).load()


@pytest.mark.parametrize("source", [CIFAR10, CIFAR100])
@pytest.mark.parametrize("direct", [True, False])
def test_cifar_binary_records(tmp_path, source, direct):
    content = write_cifar(tmp_path if direct else tmp_path / source.inner, source)
    loaded = source(str(tmp_path)).load()
    for images, names in ((loaded.train, source.names[:-2]), (loaded.test, source.names[-2:-1])):
        records = np.concatenate([content[name] for name in names])
        assert np.array_equal(images.labels, records[:, source.label_bytes - 1])
        # Each record: the label bytes, then the red, green and blue planes in row order.
        assert np.array_equal(images.images[7, 2, 3, 5], records[7, source.label_bytes + 2 * 1024 + 3 * 32 + 5])
        assert np.array_equal(images.images.reshape(-1), records[:, source.label_bytes :].reshape(-1))
    assert loaded.class_names[9] == "class9"


@pytest.mark.parametrize("content, reason", [(b"\x01" * 5000, "cut short"), (b"\x0a" + bytes(3072), "10 classes")])
def test_damaged_cifar_files_are_named(tmp_path, content, reason):
    write_cifar(tmp_path, CIFAR10)
    (tmp_path / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(UserError, match=rf"data_batch_2\.bin is damaged.*{reason}.*fetch it again"):
        CIFAR10(str(tmp_path)).load()


def test_cifar_python_version_is_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UserError, match=r"pickles.*cifar-10-binary"):
        CIFAR10(str(tmp_path)).fingerprint()


def test_cifar_parquet_folder_points_to_the_other_source(tmp_path):
    (tmp_path / "train-00000-of-00001.parquet").touch()
    with pytest.raises(UserError, match="dataset=hf"):
        CIFAR10(str(tmp_path)).fingerprint()


def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "site", "http://127.0.0.1:9/")
    with pytest.raises(UserError, match=r"CIFAR-10 could not be downloaded.*cifar-10-binary"):
        CIFAR10(str(tmp_path)).load()
    monkeypatch.setattr(idx, "SYSTEM_FOLDER", tmp_path / "nowhere")
    monkeypatch.setattr(idx, "DEFAULT_ROOT", tmp_path)
    monkeypatch.setattr(FashionMNIST, "site", "http://127.0.0.1:9/")
    with pytest.raises(UserError, match=r"Fashion-MNIST could not be downloaded.*put train-images"):
        FashionMNIST().load()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Makes a folder the site of a source's downloads, which go to ``tmp_path/fetched``."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def serve(folder: Path, source: type) -> None:
        monkeypatch.setattr(source, "site", f"http://127.0.0.1:{server.server_port}/{folder.name}/")
        md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in source.downloads}
        monkeypatch.setattr(source, "downloads", md5)
        monkeypatch.setattr(idx, "SYSTEM_FOLDER", tmp_path / "nowhere")
        monkeypatch.setattr(idx, "DEFAULT_ROOT", tmp_path / "fetched")

    yield serve
    server.shutdown()
    server.server_close()


def test_an_archive_is_downloaded_and_unpacked(tmp_path, served):
    content = write_cifar(tmp_path / "made", CIFAR100)
    (tmp_path / "site").mkdir()
    with tarfile.open(tmp_path / "site" / "cifar-100-binary.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made", CIFAR100.inner)
    served(tmp_path / "site", CIFAR100)
    loaded = CIFAR100(str(tmp_path / "fetched")).load()
    assert np.array_equal(loaded.test.labels, content["test.bin"][:, 1])


def test_idx_files_are_downloaded_as_they_are(tmp_path, served):
    write_idx(tmp_path / "site")
    served(tmp_path / "site", FashionMNIST)
    assert FashionMNIST().fingerprint() == FashionMNIST(str(tmp_path / "site")).fingerprint()


def test_a_download_with_another_checksum_is_refused(tmp_path, served):
    write_idx(tmp_path / "site")
    served(tmp_path / "site", FashionMNIST)
    with (tmp_path / "site" / "t10k-images-idx3-ubyte.gz").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(UserError, match="could not be downloaded"):
        FashionMNIST().load()
