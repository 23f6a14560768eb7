from teddy.config.schema import STAGES
from teddy.runtime import metrics


def test_every_fixed_name_is_listed_once_and_has_two_parts_or_three():
    assert metrics.SYNTHESIS_BLOCK in metrics.FIXED
    assert metrics.POOL_TOP1_HOLDOUT in metrics.FIXED
    assert len(set(metrics.FIXED)) == len(metrics.FIXED)
    assert all(len(name.split("/")) == 2 + (name == metrics.POOL_TOP1_HOLDOUT) for name in metrics.FIXED)


def test_curves_belong_to_a_stage():
    families = {name.split("/")[0] for name in metrics.FIXED}
    assert families - {"cost", "divergence"} <= set(STAGES)


def test_a_curve_keeps_its_name_in_a_stage_and_gets_a_longer_one_in_a_fit():
    fit = metrics.student_fit("mine", "paper", "resnet18", 0)
    assert fit == "evaluation/mine/paper/resnet18/0"
    assert metrics.in_fit(fit, metrics.EVALUATION_LOSS) == "evaluation/mine/paper/resnet18/0/loss"
    assert metrics.in_fit("pool", metrics.POOL_LOSS) == metrics.POOL_LOSS
