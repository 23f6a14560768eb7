"""``python -m teddy.export FOLDER --to FORM``."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from teddy.config.errors import StageFailed, UserError

if TYPE_CHECKING:
    from teddy.export.teachers import Labeller
    from teddy.sets.folder import SetFolder

FORMS = ("imagefolder", "hf", "sre2l", "ddranking", "rethinkdc")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 the input cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m teddy.export",
        description="Write a set in a form that other tools read.",
        epilog="example: python -m teddy.export outputs/quickstart/2026-01-31_12-00-00/sets/teddy --to hf",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a set: what a run names on its line 'Set:'")
    parser.add_argument("--to", required=True, choices=FORMS, help="sre2l serves RDED's script as well")
    parser.add_argument("--out", type=Path, help="a new folder; default: the set's name and the form")
    parser.add_argument("--push", metavar="OWNER/NAME", help="hf: upload to the Hub")
    parser.add_argument("--dry-run", action="store_true", help="hf: list what --push would upload")
    parser.add_argument("--licence", help="hf: of the real data, as the Hub names licences")
    parser.add_argument("--epochs", type=_count, default=300, help="sre2l: epochs of labels (%(default)s)")
    parser.add_argument("--batch-size", type=_count, default=1024, help="sre2l: of its training (%(default)s)")
    args = parser.parse_args(argv)
    logging.basicConfig(format="teddy.export: %(message)s", level=logging.WARNING)
    try:
        print(f"{_export(args)}\nWritten to {args.out}")
        return 0
    except (UserError, StageFailed, OSError) as error:
        print(f"teddy.export: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1


def _count(text: str) -> int:
    if not 1 <= (number := int(text)) <= 100_000:
        raise argparse.ArgumentTypeError("must lie between 1 and 100,000")
    return number


def _export(args: argparse.Namespace) -> str:
    from teddy.export import hf  # imported late, so that --help is quick
    from teddy.export.teachers import set_labeller
    from teddy.sets.folder import open_set

    if args.to != "hf" and (args.push or args.dry_run or args.licence):
        raise UserError("--push, --dry-run and --licence belong to --to hf; leave them out.")
    opened = open_set(args.folder.expanduser())
    if opened.description.dataset.boxes is not None:
        raise UserError(f"{args.folder} has boxes, which no form but its own keeps; use the folder as it is.")
    args.out = (args.out or Path(f"{opened.description.name}-{args.to}")).expanduser()
    if args.out.exists():
        raise UserError(f"{args.out} is there already; remove it or name another folder with --out.")
    labeller = set_labeller(opened) if args.to in ("sre2l", "ddranking") else None
    if args.to == "sre2l" and labeller is None:
        raise UserError(
            f"{args.folder} holds no teachers, and FKD's views need labels of their own; make the set again with a protocol of "
            "soft labels and labels=online, which puts its teachers into its folder."
        )
    args.out.mkdir(parents=True)
    try:
        done = _write(args, opened, labeller)
    except BaseException:
        shutil.rmtree(args.out)
        raise
    return "\n".join([*(hf.push(args.out, args.push, args.dry_run) if args.push else []), done])


def _write(args: argparse.Namespace, opened: SetFolder, labeller: Labeller | None) -> str:
    from teddy.export import ddranking, fkd, hf, imagefolder

    if args.to == "imagefolder":
        return imagefolder.export(opened, args.out)
    if args.to == "rethinkdc":
        return imagefolder.export_rethinkdc(opened, args.out)
    if args.to == "ddranking":
        return ddranking.export(opened, args.out, labeller)
    if labeller is not None:
        return fkd.export(opened, args.out, labeller, args.epochs, args.batch_size)
    return hf.export(opened, args.out, args.push or f"OWNER/{opened.description.name}", args.licence)


if __name__ == "__main__":
    sys.exit(main())
