"""The paper's theory against real data: `python scripts/theory.py theory|figure5|dcs -- dataset=cifar10_hf dataset.root=FOLDER`.

Writes results.csv, the figure and the table in README.md of experiments/<name>. Overrides after `--` change the configuration
`+experiment=cifar10_table5`, whose teachers, images and students are made by the usual stages; what is in the store is not made
again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from teddy import factory
from teddy.artifacts.store import ArtifactStore
from teddy.config.command import check_jobs, read_command
from teddy.config.schema import register_schemas
from teddy.data.batches import eval_batches
from teddy.data.images import ImageSet, TensorImages, subset
from teddy.data.spec import DatasetSpec
from teddy.evaluation.split import open_split
from teddy.evaluation.stage import evaluate
from teddy.models.features import FeatureNetwork
from teddy.models.networks import build_network
from teddy.models.stateless import StatelessNetwork
from teddy.plan import make_plan
from teddy.pool.members import ModelPool
from teddy.pool.strategy import PoolStrategy
from teddy.pool.trajectory import BaseTraining, trajectory
from teddy.report.charts import COLOURS, GREY, chart
from teddy.runtime import seeding
from teddy.runtime.loggers import RunLog
from teddy.runtime.progress import StageProgress
from teddy.synthesis.init import random_images
from teddy.synthesis.method import Inputs, Method
from teddy.synthesis.stage import ImageFolderArtifact, synthesize
from teddy.theory.dcs import Objectives, interval, rank_correlation
from teddy.theory.degraded import Degraded
from teddy.theory.linear_head import Gap, Moments
from teddy.theory.taylor import Batch, training, unrolled

RECORDS = Path(__file__).resolve().parent.parent / "experiments"
STAGES = (0, 1, 4, 8)  # epochs of the teacher; the network of 0 is as initialised, but for its BatchNorm statistics
METHODS = "method=[classwise,teddy,sre2l,dm,herding,kcentre,kmeans,el2n,cad_prune,random]"
STUDENTS = ["evaluation.students=[convnet3]", "evaluation.epochs=100", "evaluation.batch_size=50", "evaluation.seeds=2"]
NETWORK = "convnet3_w16_in"  # of the unrolled objective
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
ITERATIONS, STEPS = 30, 10
SEEDS = (0, 1, 2)  # of Figure 5's first images, networks and real images
OBJECTIVES = {
    "bn": "BatchNorm, global, running (Eq. 7)",
    "bn_measured": "BatchNorm, global, measured",
    "bn_class": "BatchNorm, class-wise",
    "mean_class": "class means, last layer",
    "mean_class_3": "class means, three layers",
    "gradient_cosine": "gradients by class, cosine",
    "gradient_l2": "gradients by class, L2",
    "gradient_all": "gradient of all classes, cosine",
    "cross_entropy": "cross-entropy (Eq. 7)",
}
SELECTIONS = ("herding", "kcentre", "kmeans", "el2n", "cad_prune")


class Setting:
    """The data, teachers, images and students that a configuration names."""

    def __init__(self, overrides: list[str]) -> None:
        register_schemas()
        words = ["+experiment=cifar10_table5", "logger=csv", METHODS, *STUDENTS, *overrides]
        (self.config,) = check_jobs(read_command(words))
        self.plan = make_plan(self.config)
        if self.config.trainer.threads:
            torch.set_num_threads(self.config.trainer.threads)
        self.device_config = factory.device_config_of(self.config)
        self.store, self.log = ArtifactStore(Path(self.config.store)), RunLog(Path("outputs", "theory"))
        self.dataset = factory.dataset_of(self.config, self.plan.source)
        self.spec = self.dataset.spec

    @cached_property
    def base(self) -> BaseTraining:
        return factory.base_training(self.config, self.store, self.dataset, self.device_config, self.log)

    @cached_property
    def pool(self) -> ModelPool:
        """Every epoch of the base model."""
        return ModelPool(tuple(trajectory(self.base)), self.spec, "trajectory")

    def inputs(self, strategy: PoolStrategy | None = None) -> Inputs:
        """What methods read; of the run's pool, unless one has its own."""
        make = (strategy or self.plan.strategy).make
        return Inputs(self.dataset, self.store, lambda: make(self.base), self.config.dataset.holdout, self.config.seed)

    @cached_property
    def train(self) -> ImageSet:
        return self.inputs().train

    def real(self, ipc: int, seed: int) -> TensorImages:
        """Random training images of each class."""
        chosen = random_images(self.train, range(self.spec.num_classes), ipc, seed).flatten()
        return TensorImages(self.train.take(chosen), self.train.labels[chosen])

    def batch(self, images: ImageSet) -> Batch:
        return self.spec.normalise(images.take(range(len(images)))), images.labels

    def teacher(self, epoch: int) -> nn.Module:
        """The base model after so many epochs."""
        if epoch:
            (index,) = (place for place, member in enumerate(self.pool.members) if member.epoch == epoch)
            return self.pool.load(index)
        network = self.base.build_network()
        real = self.batch(self.real(200, 1))[0]
        update_bn(real[torch.from_numpy(seeding.permutation(len(real), "calibration"))].split(250), network)
        return network.eval().requires_grad_(False)

    def made(self, name: str, method: Method, seed: int = 0) -> ImageFolderArtifact:
        inputs = self.inputs(method.pool)
        return synthesize(
            self.store, method, inputs, self.device_config, seed=seed, log=self.log, name=f"synthesis/{name}"
        )

    def sets(self) -> dict[str, ImageFolderArtifact]:
        """Sets of one size: selected, distilled, random and degraded."""
        made = {name: self.made(name, method) for name, method in self.plan.methods.items() if name != "random"}
        random = self.plan.methods["random"]
        made |= {f"random {seed}": self.made("random", random, seed) for seed in range(5)}
        worse = [("blocks of 2", 2, 0.0), ("blocks of 4", 4, 0.0), ("noise .1", 1, 0.1), ("noise .3", 1, 0.3)]
        for name, blur, noise in worse:
            made[name] = self.made("degraded", Degraded(ipc=random.ipc, blur=blur, noise=noise))
        return made


def theory(setting: Setting, folder: Path) -> tuple[str, pd.DataFrame]:
    """The remainder of Eq. 3 over the learning rate; what Prop. 2 drops, by the teacher's stage."""
    frame = pd.DataFrame([*remainders(setting), *dropped(setting)])
    return theory_page(frame, folder), frame


def theory_page(frame: pd.DataFrame, folder: Path) -> str:
    """Tables and figure of both."""
    remainder = frame[frame.what == "remainder"]
    shares = frame[frame.what == "share"]
    names = ["Remainder of Eq. 3", "What Prop. 2 drops"]
    with chart(folder / "figures" / "theory.png", 5.2, 4.4, names) as (left, right):
        for (steps, some), colour in zip(remainder.groupby("steps"), COLOURS, strict=False):
            line = some.groupby("lr").value.median()
            left.plot(line.index, line, marker="o", color=colour, label=f"T = {steps:g}")
        left.set(xscale="log", yscale="log", xlabel="learning rate α", ylabel="|remainder| / change of the real loss")
        seen = shares[shares.quantity != "second moments off the diagonal"]  # which the covariance's line would hide
        for (name, some), colour in zip(seen.groupby("quantity", sort=False), COLOURS[3:], strict=False):
            line = some.groupby("stage").value.mean()
            right.plot(range(len(line)), line, marker="o", color=colour, label=name)
        right.set_xticks(range(len(STAGES)), STAGES)
        right.set(xlabel="epoch of the teacher", ylabel="share of the squared norm", ylim=(0, 1.05))
    one = remainder.pivot_table(index="lr", columns="steps", values="value", aggfunc="median")
    two = shares.pivot_table(index=["quantity", "set"], columns="stage", values="value", sort=False)
    bound = frame[frame.what == "bound"].pivot_table(
        index=["quantity", "set"], columns="stage", values="value", sort=False
    )
    parts = [
        "Remainder of Eq. 3 as a share of the change of the real loss, median of three initialisations:",
        table(one, "α", {name: f"T = {name:g}" for name in one.columns}, "{:.3g}"),
        "Share of the squared norm that Prop. 2 drops, by the teacher's epoch:",
        table(two, "dropped, set", {}, "{:.3f}"),
        "Left side of Eq. 15 over its right side as printed (above 1: violated); of 100 random heads the largest:",
        table(bound, "head, set", {}, "{:.1e}"),
    ]
    return "\n\n".join(parts)


def remainders(setting: Setting) -> list[dict[str, object]]:
    """The relative remainder of Eq. 3 in float64, for random real images at IPC 5."""
    spec, rows = setting.spec, []
    real, longest = setting.batch(setting.real(10, 1)), 20
    for seed, lr in itertools.product(range(3), (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1)):
        network = small_network(spec, seed)
        synthetic = setting.batch(setting.real(5, 2 + seed))
        batches = [(images.double(), labels) for images, labels in (synthetic, real)]
        total, first = 0.0, None
        for taken, step in enumerate(training(network, network.initial.double(), *batches, lr)):
            first = step.real if first is None else first
            if taken in (1, 5, longest):
                value = abs(step.real - (first - lr * total)) / abs(step.real - first)
                rows.append({"what": "remainder", "lr": lr, "steps": taken, "seed": seed, "value": value})
            if taken == longest:
                break
            total += float(step.product.detach())
    return rows


def dropped(setting: Setting) -> list[dict[str, object]]:
    """Shares of what Prop. 2 leaves out, and how tight Eq. 15 is, for the last features of teachers."""
    sets = setting.sets()
    chosen = {name: sets[name].images for name in ("random 0", "herding", "classwise", "teddy")}
    rows, generator = [], seeding.generator("heads")
    for stage in STAGES:
        teacher = setting.teacher(stage)
        network, own = FeatureNetwork(teacher), last_layer(teacher).weight.T.double()
        real = moments(network, setting, setting.real(500, 1))
        for name, images in chosen.items():
            gap = Gap(real, moments(network, setting, images))
            shares = {
                "second moments off the diagonal": gap.off_diagonal(),
                "covariance off the diagonal": gap.off_diagonal(centred=True),
                "class means beyond the global mean": gap.between_classes(),
            }
            at = {"stage": stage, "set": name}
            rows += [{"what": "share", **at, "quantity": key, "value": value} for key, value in shares.items()]
            draws = [torch.randn(gap.crossed.shape, generator=generator, dtype=torch.float64) for _ in range(100)]
            heads = {"random": [draw / len(draw) ** 0.5 for draw in draws], "its own": [own]}
            for head, some in heads.items():
                loosest = max(gap.distance(weight) / gap.bound(weight) for weight in some)
                rows.append({"what": "bound", **at, "quantity": head, "value": loosest})
    return rows


def last_layer(network: nn.Module) -> nn.Linear:
    *_, last = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    return last


@torch.no_grad()
def moments(network: FeatureNetwork, setting: Setting, images: TensorImages) -> Moments:
    batches = [network(setting.spec.normalise(pixels))[0][0] for pixels, *_ in eval_batches(images, 0)]
    targets = F.one_hot(images.labels, setting.spec.num_classes)
    return Moments.of(torch.cat(batches).double(), targets.double())


def figure5(setting: Setting, folder: Path) -> tuple[str, pd.DataFrame]:
    """Images optimised by Eq. 1 and by Eq. 3: both objectives in each iteration, and the students' accuracy."""
    runs = list(itertools.product(SEEDS, (0.01, 0.1), ("Eq. 1", "Eq. 3")))
    with StageProgress("synthesis", ITERATIONS * len(runs), "iterations") as progress:
        frame = pd.DataFrame([row for run in runs for row in optimised(setting, *run, progress)])
    return figure5_page(frame, folder), frame


def figure5_page(frame: pd.DataFrame, folder: Path) -> str:
    """Table and figure: mean over iterations, and over seeds with the sample standard deviation."""
    names = [f"{what}, α = {lr:g}" for lr in frame.lr.unique() for what in ("Loss of real images", "Accuracy")]
    with chart(folder / "figures" / "figure5.png", 5.2, 3.6, names) as axes:
        for (_, some), (left, right) in zip(frame.groupby("lr"), zip(axes[::2], axes[1::2], strict=True), strict=True):
            for (by, lines), colour in zip(some.groupby("by"), COLOURS, strict=False):
                line = lines.groupby("iteration")[["unrolled", "taylor", "top1"]].mean()
                left.plot(line.index, line.unrolled, color=colour, ls="--", label=f"images by {by}: value of Eq. 1")
                left.plot(line.index, line.taylor, color=colour, label=f"images by {by}: value of Eq. 3")
                right.plot(line.index, line.top1, color=colour)
            left.set(xlabel="iteration", ylabel="loss")
            right.set(xlabel="iteration", ylabel="top-1 accuracy (%)")
    found = {}
    for (lr, seed), some in frame.groupby(["lr", "seed"]):
        exact, taylor = (some[some.by == by].set_index("iteration") for by in ("Eq. 1", "Eq. 3"))
        gap, change = some.unrolled - some.taylor, some.start - some.unrolled
        late = slice(ITERATIONS // 2, None)
        found[f"{lr:g}", seed] = {
            "change of the loss by T steps": change.mean(),
            "Eq. 1 less Eq. 3, same images": gap.mean(),
            "cosine of the two gradients for the images": some.gradient_cosine.mean(),
            "loss, images by Eq. 3 less by Eq. 1": (taylor.unrolled - exact.unrolled).mean(),
            "accuracy by Eq. 1 (%)": exact.top1.mean(),
            "accuracy by Eq. 3 (%)": taylor.top1.mean(),
            "accuracy in the second half, Eq. 3 less Eq. 1": (taylor.top1 - exact.top1).loc[late].mean(),
            "peak accuracy by Eq. 1 (%)": exact.top1.max(),
            "peak accuracy by Eq. 3 (%)": taylor.top1.max(),
            "loss of the synthetic images after T steps": some.synthetic.mean(),
        }
    means = pd.DataFrame(found)
    lines = {
        lr: [f"{row.mean():.3f} ± {row.std():.3f}" for _, row in some.iterrows()]
        for lr, some in ((lr, means[lr]) for lr in means.columns.unique(0))
    }
    names = {lr: f"α = {lr}" for lr in lines}
    return table(pd.DataFrame(lines, index=means.index), f"mean over iterations, {len(SEEDS)} seeds", names, "{}")


def small_network(spec: DatasetSpec, seed: int) -> StatelessNetwork:
    """The network of the unrolled objective; its memory format is the one in which second derivatives take half the time."""
    network = build_network(NETWORK, spec.num_classes, spec.channels, spec.size, seed)
    return StatelessNetwork(network.to(memory_format=torch.contiguous_format))


def optimised(setting: Setting, seed: int, lr: float, by: str, progress: StageProgress) -> Iterator[dict[str, object]]:
    """Optimise random real images by one of the two objectives; a new network and new real images in each iteration."""
    spec = setting.spec
    held = open_split("heldout", setting.dataset, setting.config.dataset.holdout, setting.config.seed).images()
    measured = setting.batch(subset(held, seeding.permutation(len(held), "figure 5")[:1000]))
    pixels, labels = setting.batch(setting.real(5, 10_000 * seed))
    own = pixels.requires_grad_(), labels
    optimizer = torch.optim.Adam([pixels], lr=0.05, betas=(0.5, 0.9))
    for iteration in range(ITERATIONS):
        network = small_network(spec, 10_000 * seed + 1000 + iteration)
        start, real = network.initial, setting.batch(setting.real(10, 10_000 * seed + 100 + iteration))
        value = unrolled(network, start, own, real, lr, STEPS)
        (exact,) = torch.autograd.grad(value, pixels)
        steps = list(itertools.islice(training(network, start, own, real, lr), STEPS + 1))
        approximation = steps[0].real - lr * sum(step.product for step in steps[:-1])
        (approximate,) = torch.autograd.grad(approximation, pixels)
        last = steps[-1].weights
        with torch.no_grad():
            logits = network(last, measured[0])
            row = {
                "seed": seed,
                "lr": lr,
                "by": by,
                "iteration": iteration,
                "start": steps[0].real,
                "unrolled": float(value.detach()),
                "taylor": float(approximation.detach()),
                "gradient_cosine": float(F.cosine_similarity(exact.flatten(), approximate.flatten(), dim=0)),
                "synthetic": float(F.cross_entropy(network(last, pixels), labels)),
                "heldout_loss": float(F.cross_entropy(logits, measured[1])),
                "top1": 100 * float((logits.argmax(1) == measured[1]).float().mean()),
            }
        yield row
        pixels.grad = exact if by == "Eq. 1" else approximate
        optimizer.step()
        progress.advance(loss=row["unrolled"])


def dcs(setting: Setting, folder: Path) -> tuple[str, pd.DataFrame]:
    """Rank correlation of objectives with the test loss of students, by the teacher's stage."""
    sets, losses = setting.sets(), {}
    split = factory.eval_split(setting.config, setting.dataset)
    planned = {name: factory.students(setting.config, images, None) for name, images in sets.items()}
    total = sum(student.protocol.epochs for students in planned.values() for student in students)
    with StageProgress("evaluation", total, "epochs") as progress:
        for name, students in planned.items():
            arguments = setting.store, split, sets[name], students, setting.device_config, setting.log, progress, name
            losses[name] = [artifact.facts for artifact in evaluate(*arguments)]
    real, rows = setting.real(200, 1), []
    for stage in STAGES:
        objectives = Objectives(setting.teacher(stage), setting.spec, real)
        for name, images in sets.items():
            facts = {f"loss_{index}": one["loss"] for index, one in enumerate(losses[name])}
            facts |= {f"top1_{index}": one["top1"] for index, one in enumerate(losses[name])}
            rows.append({"stage": stage, "set": name, **facts, **objectives(images.images)})
    frame = pd.DataFrame(rows)
    frame["loss"] = frame.filter(regex=r"^loss_").mean(axis=1)
    frame["error"] = 100 - frame.filter(regex=r"^top1_").mean(axis=1)
    return correlations(frame, folder), frame


def correlations(frame: pd.DataFrame, folder: Path) -> str:
    """Tables and figure of the rank correlations, over all sets and over real images as they are."""
    untouched = frame.set.str.startswith("random") | frame.set.isin(SELECTIONS)
    parts, found = [], {}
    for title, some in {"all sets": frame, "selected and random real images alone": frame[untouched]}.items():
        for target in ("loss", "error"):
            rows = {
                name: {stage: rank_correlation(one[name], one[target]) for stage, one in some.groupby("stage")}
                for name in OBJECTIVES
            }
            found[title, target] = pd.DataFrame(rows).T
            within = {
                name: {stage: with_interval(one[name], one[target]) for stage, one in some.groupby("stage")}
                for name in OBJECTIVES
            }
            count = some.set.nunique()
            parts.append(f"With the test {target} of students, {title} ({count}), by the teacher's epoch:")
            parts.append(table(pd.DataFrame(within).T.rename(index=OBJECTIVES), "objective", {}, "{}"))
    first = frame[frame.stage == STAGES[0]]
    for title, some in {
        "all sets": first,
        "selected and random real images alone": first[untouched[first.index]],
    }.items():
        between = rank_correlation(some.loss_0, some.loss_1), rank_correlation(some.top1_0, some.top1_1)
        parts.append(f"Between the two students of a set, {title}: {between[0]:.2f} (loss), {between[1]:.2f} (error).")
    names = ["Rank correlation with test loss", "With test error"]
    with chart(folder / "figures" / "dcs.png", 5.2, 4.6, names, sharey=True) as axes:
        for axis, target in zip(axes, ("loss", "error"), strict=True):
            for (name, title), colour in zip(OBJECTIVES.items(), COLOURS, strict=True):
                axis.plot(
                    range(len(STAGES)), found["all sets", target].loc[name], marker="o", color=colour, label=title
                )
            axis.axhline(0, color=GREY, lw=1)
            axis.set_xticks(range(len(STAGES)), STAGES)
            axis.set(xlabel="epoch of the teacher", ylabel="Spearman's ρ", ylim=(-0.3, 1))
    columns = {"loss": "test loss", "error": "test error (%)"}
    students = first.set_index("set")[list(columns)].sort_values("loss")
    return "\n\n".join([*parts, "The students, mean of two:", table(students, "set", columns, "{:.2f}")])


def with_interval(values: pd.Series, losses: pd.Series) -> str:
    """A rank correlation and its 90 % interval, for a table."""
    low, high = interval(values, losses)
    return f"{rank_correlation(values, losses):.2f} ({low:.2f} to {high:.2f})"


def table(frame: pd.DataFrame, corner: str, names: dict[object, str], number: str) -> str:
    """Markdown of numbers, rows named by the index."""
    head = [
        corner,
        *(names.get(column, column if isinstance(column, str) else f"{column:g}") for column in frame.columns),
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * len(frame.columns) + "|"]
    for index, row in frame.iterrows():
        title = ", ".join(map(str, index)) if isinstance(index, tuple) else f"{index}"
        lines.append("| " + " | ".join([title, *(number.format(value) for value in row)]) + " |")
    return "\n".join(lines)


def write_between(page: Path, results: str) -> Path:
    """Put the tables in their place in a page whose text is written by hand."""
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{results}\n{END}{rest.partition(END)[2]}")
    return page


def main() -> None:
    experiments = {"theory": theory, "figure5": figure5, "dcs": dcs}
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=experiments)
    name = parser.parse_args(sys.argv[1:end]).name
    folder = RECORDS / name
    results, frame = experiments[name](Setting(sys.argv[end + 1 :]), folder)
    frame.to_csv(folder / "results.csv", index=False, float_format="%.6g", lineterminator="\n")
    print(f"Record: {write_between(folder / 'README.md', results)}")


if __name__ == "__main__":
    main()
