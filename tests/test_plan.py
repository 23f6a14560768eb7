"""What a configuration names, as objects: mistakes that only the objects can tell."""

from __future__ import annotations

import pytest

from teddy.config.command import check_jobs, read_command
from teddy.config.errors import UserError
from teddy.config.schema import register_schemas
from teddy.plan import Plan, make_plan

register_schemas()


def plan_of(*arguments: str) -> Plan:
    (config,) = check_jobs(read_command(arguments))
    return make_plan(config)


def test_the_quick_start_names_its_methods_in_order():
    plan = plan_of("+experiment=quickstart")
    assert list(plan.methods) == ["classwise", "teddy", "random"]
    assert [method.baseline for method in plan.methods.values()] == [False, False, True]
    assert plan.methods["teddy"].pool is None, "the run's pool"
    assert plan.strategy.members(range(1, 11)) == 5


def test_a_method_may_have_a_pool_of_its_own():
    plan = plan_of("+experiment=quickstart", "method=[teddy,converged,random]")
    assert plan.methods["teddy"].pool is None
    assert plan.methods["converged"].pool.label == "converged"


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["pool.last=null"], "pool.last and pool.size are both null"),
        (["pool.last=null", "pool.size=10", "pool.every=1"], "pool epochs 11 are not among the saved ones"),
        (["pool.size=10"], "pool.size=10 asks for more members than the 9 saved epochs"),
        (["pool.training.save_every=5"], "pool epochs 2, 4, 8 are not among the saved ones"),
        (["labels.members=6"], "labels.members=6 asks for more teachers than the pool's 5"),
        (["synthesis.teachers_per_block=6"], "synthesis.teachers_per_block=6 asks for more teachers than the pool's 5"),
        (
            ["method=[converged,random]", "methods.converged.teachers_per_block=2"],
            "asks for more teachers than the pool's 1",
        ),
        (["methods.teddy.lr=fast"], "methods.teddy.lr='fast' must be a valid number"),
        (["model.name=resnt18"], "there is no network 'resnt18' (did you mean 'resnet18'?)"),
        (["dataset=imagefolder", "dataset.root=/no/where"], "dataset.root=/no/where does not exist"),
        (["logger=csv", "+logger.csv.colour=red"], "logger.csv"),
        (["+trainer.callbacks.stop._target_=lightning.pytorch.callbacks.Nothing"], "cannot be found"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_mistake_is_one_sentence(arguments, fragment):
    with pytest.raises(UserError) as caught:
        plan_of(*arguments)
    assert fragment in str(caught.value)
