"""Datasets packed in a few binary files, gzipped or not, that are found in some folder or downloaded."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from teddy.artifacts.fingerprint import file_digest, fingerprint
from teddy.config.errors import UserError


class PackedFiles:
    """The files of one dataset, in the first of some folders that has them all; a download goes to the first."""

    kind: str  # name of the source in fingerprints
    title: str  # for people
    site: str  # address of the downloads
    downloads: ClassVar[dict[str, str]]  # MD5 checksums of the files of the site, by name
    names: tuple[str, ...]  # of the files that are read, without ``.gz``

    def __init__(self, folders: Sequence[Path], may_download: bool) -> None:
        self.folders, self.may_download = folders, may_download
        self.remedy = f"put {', '.join(self.downloads)} from {self.site} into a folder and set dataset.root to it."

    def check(self) -> None:
        if self.find() is None and not self.may_download:
            raise UserError(f"{self.title} was not found in {self.folders[0]}; {self.remedy}")

    def find(self) -> dict[str, Path] | None:
        """Find the files by name; None if no folder holds all of them."""
        for folder in self.folders:
            paths = ((name, folder / f"{name}{suffix}") for name in self.names for suffix in (".gz", ""))
            found = {name: path for name, path in paths if path.is_file()}
            if len(found) == len(self.names):
                return found
        return None

    def files(self) -> dict[str, Path]:
        """Find the files by name, or download them; UserError if they may not or cannot be downloaded."""
        self.check()
        if self.find() is None:
            self._download(str(self.folders[0]))
        return self.find() or {}

    def _download(self, folder: str) -> None:
        from torchvision.datasets.utils import download_url, extract_archive  # slow to import and rarely needed

        try:
            for name, md5 in self.downloads.items():
                download_url(self.site + name, folder, md5=md5)
                if name.endswith(".tar.gz"):
                    extract_archive(f"{folder}/{name}", folder)
        except (OSError, RuntimeError) as error:
            raise UserError(f"{self.title} could not be downloaded ({error}); {self.remedy}") from error

    def fingerprint(self) -> str:
        files = [(path.name, file_digest(path)) for path in self.files().values()]
        return fingerprint({"source": self.kind, "files": files})

    def read(self, path: Path) -> bytes:
        """Read the content of a file, unzipped; UserError if it is damaged."""
        try:
            return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        except (OSError, EOFError, zlib.error) as error:
            raise self.damaged(path, error) from error

    def damaged(self, path: Path, reason: object) -> UserError:
        """Make the error for a file that cannot be used."""
        return UserError(f"{path} is damaged ({reason}); fetch it again from {self.site}.")
