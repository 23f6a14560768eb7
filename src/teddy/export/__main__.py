"""``python -m teddy.export FOLDER --to FORM``."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from teddy.config.errors import StageFailed, UserError

FORMS = ("imagefolder", "hf", "sre2l", "ddranking", "rethinkdc")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 the input cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m teddy.export",
        description="Write a set in a form that other tools read.",
        epilog="example: python -m teddy.export outputs/quickstart/2026-01-31_12-00-00/sets/teddy --to hf",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a set: what a run names on its line 'Set:'")
    parser.add_argument("--to", required=True, choices=FORMS, help="see docs/export.md")
    parser.add_argument("--out", type=Path, help="a new folder; default: the set's name and the form")
    parser.add_argument("--push", metavar="OWNER/NAME", help="hf: upload to the Hub")
    parser.add_argument("--dry-run", action="store_true", help="hf: only list what would be written and uploaded")
    parser.add_argument("--licence", help="hf: of the real data, as the Hub names licences")
    parser.add_argument("--epochs", type=_count, default=300, help="sre2l: epochs of labels (%(default)s)")
    parser.add_argument("--batch-size", type=_count, default=1024, help="sre2l: of its training (%(default)s)")
    args = parser.parse_args(argv)
    logging.basicConfig(format="teddy.export: %(message)s", level=logging.WARNING)
    try:
        print(_export(args))
        return 0
    except (UserError, StageFailed, OSError) as error:
        print(f"teddy.export: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1


def _count(text: str) -> int:
    if not 1 <= (number := int(text)) <= 100_000:
        raise argparse.ArgumentTypeError("must lie between 1 and 100,000")
    return number


def _export(args: argparse.Namespace) -> str:
    from teddy.export import ddranking, fkd, hf, imagefolder  # imported late, so that --help is quick
    from teddy.runtime.device import resolve_device
    from teddy.sets.dataset import DistilledSet
    from teddy.sets.folder import CARD, open_set

    if args.to != "hf" and (args.push or args.dry_run or args.licence):
        raise UserError("--push, --dry-run and --licence belong to --to hf; leave them out.")
    if args.push and (args.push.count("/") != 1 or not all(args.push.split("/"))):
        raise UserError(f"--push {args.push} must be OWNER/NAME, as the Hub names datasets.")
    opened = open_set(args.folder.expanduser())
    facts = opened.description
    out = (args.out or Path(f"{facts.name}-{args.to}")).expanduser()
    if out.exists() or out.resolve().is_relative_to(opened.path.resolve()):
        raise UserError(f"{out} is there already or inside of the set; name another folder with --out.")
    on = resolve_device("auto", facts.labels.precision)
    labels = DistilledSet(opened).labels_for(on)
    write: dict[str, Callable[[], str]] = {
        "imagefolder": lambda: imagefolder.export(opened, out),
        "hf": lambda: hf.export(opened, out, args.push or f"OWNER/{facts.name}", args.licence),
        "sre2l": lambda: fkd.export(opened, out, labels.source(), on.device, args.epochs, args.batch_size),
        "ddranking": lambda: ddranking.export(opened, out, labels.source(), on.device),
        "rethinkdc": lambda: imagefolder.export_rethinkdc(opened, out),
    }
    out.mkdir(parents=True)
    try:
        use = write[args.to]()
        if args.to != "hf":  # whose card is its own
            (out / CARD).write_text(f"{imagefolder.about(opened)}\nFor {args.to}:\n\n    {use}\n")
        if args.dry_run:
            use = hf.listing(out)
    except BaseException:  # half a form is none
        shutil.rmtree(out)
        raise
    if args.dry_run:
        shutil.rmtree(out)
        return use
    if args.push:
        hf.push(out, args.push)
    return f"{use}\nWritten to {out}"


if __name__ == "__main__":
    sys.exit(main())
