"""What a table shows, as sentences, favourable or not; a cause is named only where one key differs."""

from __future__ import annotations

import math
from typing import Any

from teddy.report.ablation import keys_to_draw, series_of
from teddy.report.comparison import ENOUGH_SEEDS, SETTING, Comparison, evaluation_text, is_ipc, is_seed, with_spread


def sentences(comparison: Comparison) -> list[str]:
    """Say how far each numeric key moves the accuracy; without one, how the first method compares with each other one."""
    numeric = [key for key in keys_to_draw(comparison) if is_seed(key) or comparison.numeric(key)]
    keys = [key for key in numeric if not is_ipc(key)]
    return [line for key in keys for line in _effects(comparison, key)] if keys else _comparisons(comparison)


def notes(comparison: Comparison) -> list[str]:
    """Write what has to be known to read the table."""
    rows = comparison.rows
    measure = comparison.measure.replace("top", "Top")
    where = "on real test images (or held-out ones) after the last epoch"
    found = [f"{measure} {where}: mean ± sample standard deviation over seeds."]
    if (comparison.students.measure == "map50").any():
        found.append("Of detectors, IPC counts all images of a set.")
    if (rows.seeds < rows.top1.map(len)).any():
        found.append("Some rows hold a seed more than once, from settings that the columns do not tell apart.")
    if rows.seeds.min() < ENOUGH_SEEDS:
        found.append(f"Some rows have fewer than {ENOUGH_SEEDS} seeds.")
    if any(comparison.any_of(row, key) for row in rows.itertuples() for key in comparison.values):
        found.append("“any”: the key does not change these students, which were trained once and have one row.")
    if comparison.values and rows.paper.notna().any():
        found.append("The paper's accuracies belong to its own settings, whatever else is varied here.")
    return found


def _comparisons(comparison: Comparison) -> list[str]:
    found = []
    for _, some in comparison.rows.groupby(SETTING, sort=False):
        leads = list(some[(some.method == comparison.first_method(some)) & ~some.baseline].itertuples())
        rivals = {
            lead.Index: [
                (rival, _confounders(comparison, lead, rival))
                for method in some.method.drop_duplicates()
                if method != lead.method
                for rival in comparison.partners(lead, some[some.method == method]).itertuples()
            ]
            for lead in leads
        }
        alike = {rival.method for pairs in rivals.values() for rival, keys in pairs if not keys}
        for lead in leads:
            size = f"IPC {lead.ipc}" + f", {lead.classes} classes" * bool(lead.classes)
            where = [lead.dataset, size, lead.student, evaluation_text(lead), comparison.distinction(lead)]
            start = ", ".join(filter(None, where))
            for rival, keys in rivals[lead.Index]:
                if not keys or rival.method not in alike:  # an unequal pair says nothing beside an equal one
                    found.append(f"{start}: {_compare(lead, rival, keys)}")
            if not some.baseline.any():
                missing = "random real images were not evaluated under the same labels"
                found.append(f"{start}: {missing}, so {with_spread(lead.mean, lead.std)} stands without a baseline.")
    return found


def _confounders(comparison: Comparison, lead: Any, rival: Any) -> list[str]:
    """List what differs between two rows beside the method and its own numbers."""
    return [key for key in _differing(comparison, lead, rival) if not key.startswith("methods.")]


def _compare(lead: Any, rival: Any, keys: list[str]) -> str:
    """Compare two rows, between which ``keys`` differ beside the method."""
    subject = lead.title[0].upper() + lead.title[1:]
    if keys:
        means = " and ".join(with_spread(row.mean, row.std) for row in (lead, rival))
        why = f"as {', '.join(keys)} differ{'s' * (len(keys) == 1)} too, the method is not named as the cause"
        return f"{subject} and {rival.title} have {means}; {why}."
    numbers = f"{with_spread(lead.mean, lead.std)} against {with_spread(rival.mean, rival.std)}"
    spread, gain = math.hypot(lead.std, rival.std), lead.mean - rival.mean
    if math.isnan(spread):
        verb = "is above" if gain > 0 else "is not above"
        return f"{subject} {verb} {rival.title} in a single run ({numbers}); the spread is unknown."
    if gain > spread:
        verdict = f"beats {rival.title} by {gain:.1f} points, more than the spread of {spread:.1f} ({numbers})"
    elif gain >= -spread:
        verdict = f"and {rival.title} differ by no more than the spread of {spread:.1f} ({numbers})"
    else:
        verdict = f"does not beat {rival.title} here: {numbers}"
    return f"{subject} {verdict}.{_caution(lead, rival)}"


def _caution(*rows: Any) -> str:
    few = min(len(row.top1) for row in rows) < ENOUGH_SEEDS
    return f" Fewer than {ENOUGH_SEEDS} seeds: take it as a hint." if few else ""


def _effects(comparison: Comparison, key: str) -> list[str]:
    found, rows = [], series_of(comparison, key)
    for panel, some in rows[~rows.level].groupby("panel", sort=False):
        moved = some[some.groupby("series").method.transform("size") > 1]
        for name, line in moved[moved.method == comparison.first_method(moved)].groupby("series", sort=False):
            if key == "seed":
                spread = with_spread(line["mean"].mean(), line["mean"].std())
                effect = f"is {spread} over the runs with {len(line)} seeds."
            else:
                effect = _effect(comparison, key, *list(line.sort_values("mean").itertuples())[:: len(line) - 1])
            found.append(f"{panel}: {name} {effect}")
    return found


def _differing(comparison: Comparison, one: Any, other: Any) -> list[str]:
    """List the varied keys of which two rows have no value in common; which other methods their runs had does not count."""
    keys = [key for key in comparison.values if key != "method"]
    return [key for key in keys if not set(one.setting[key]) & set(other.setting[key])]


def _effect(comparison: Comparison, key: str, low: Any, high: Any) -> str:
    if len(keys := _differing(comparison, low, high)) > 1:
        settings = [", ".join(f"{one} {comparison.text(row, one)}" for one in keys) for row in (high, low)]
        means = [with_spread(row.mean, row.std) for row in (high, low)]
        ends = " and ".join(f"{mean} with {setting}" for mean, setting in zip(means, settings, strict=True))
        return f"is {ends}; as more than one key differs, none is named as the cause."
    best, worst = (f"{comparison.text(row, key)} ({with_spread(row.mean, row.std)})" for row in (high, low))
    ends = f"is best at {key} {best} and worst at {worst}"
    gain, spread = high.mean - low.mean, math.hypot(low.std, high.std)
    if math.isnan(spread):
        return f"{ends}; with a single run each, the spread is unknown."
    verdict = "more than" if gain > spread else "no more than"
    return f"{ends}: {gain:.1f} points, {verdict} the spread of {spread:.1f}.{_caution(low, high)}"
